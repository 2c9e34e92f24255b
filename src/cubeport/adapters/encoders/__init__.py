"""Output forms: one file a form, with an ``ENCODER``; ``cubeport.cubes.forms.FORMS`` names them."""
