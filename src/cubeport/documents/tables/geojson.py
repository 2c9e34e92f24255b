"""A table as GeoJSON: each zone is a feature with its values as properties, so that a GIS can colour it."""

from __future__ import annotations

from cubeport.cubes.tables.table import Table
from cubeport.documents.tables.form import Elements, TableForm, number


def write(table: Table, _: Elements) -> bytes:
    """Return a FeatureCollection. The name of each property is ``variable`` or ``variable statistic``, followed by the period."""
    import orjson

    document = table.zone_set.document()
    for place, feature in enumerate(document["features"]):
        values = {
            f"{column.name} {label}".strip(): number(column.values[at, place].item())
            for column in table.columns
            for at, label in enumerate(table.labels)
        }
        shares = [column.shares[:, place].min().item() for column in table.columns]
        feature["properties"] |= {**values, "share": round(min(shares), 6)}
    document |= {
        "id": f"{table.dataset_id}@{table.version_id}",
        "zone_set": table.zone_set.id,
        "title": table.title or table.dataset_id,
    }
    return orjson.dumps(document)


FORM = TableForm("geojson", "GeoJSON", "application/geo+json", "geojson", write)
