"""The encoders of the output forms, one file for each. ``cubeport.cubes.forms.FORMS`` lists them."""
