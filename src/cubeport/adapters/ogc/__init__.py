"""The pygeoapi provider of cubeport, and pygeoapi's configuration in memory."""
