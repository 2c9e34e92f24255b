"""The actions of the service, one module for each verb. ``ports`` defines what it needs from outside."""
