"""Tables: a value for each zone and period, from cells weighted by the part of each that is in the zone."""
