"""Tables: values of zones by period, from cells weighted by how much of each lies in the zone."""
