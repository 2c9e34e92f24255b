"""A catalog of files: add, find, open, check, change, look back. Needs `pip install cubeport`; leaves everything in ./work."""

from pathlib import Path

from cubeport import Catalog

files = Path("work/inbox")
files.mkdir(parents=True)
(files / "oslo 2018.csv").write_text("day,co2\n1,408\n2,409\n")
(files / "rome 2019.csv").write_text("day,co2\n1,411\n")
(files / "notes.txt").write_text("The instrument was moved in March.\n")

with Catalog.create("work/catalog") as catalog:
    # Add: the bytes are copied, hashed and synced before the record is committed.
    oslo = catalog.add_file(files / "oslo 2018.csv", {"site": "Oslo", "year": 2018}, key="co2:oslo:2018", title="CO2 at Oslo")
    catalog.add_file(files / "rome 2019.csv", {"site": "Rome", "year": 2019}, key="co2:rome:2019", title="CO2 at Rome")
    catalog.add_file(files / "notes.txt", {"site": "Oslo"}, title="Field notes", kind="note", lineage=[("derived_from", oslo)])

    # The same key again: nothing is added twice.
    again = catalog.add_file(files / "oslo 2018.csv", key="co2:oslo:2018", on_exists="skip")
    print("added again:", again.outcome)

    # Find: by a field, by a comparison, by words.
    print("at Oslo:", [record.title for record in catalog.search(site="Oslo", order=("title",))])
    print("since 2019:", [record.title for record in catalog.search("year>=2019")])
    print("words:", [record.title for record in catalog.search(text="notes")])

    # Open: where the bytes are, and the bytes.
    print("path:", catalog.path("co2:oslo:2018").relative_to(catalog.root / "files").parts[-1])
    print("first line:", catalog.path("co2:oslo:2018").read_text().splitlines()[0])

    # What there is.
    print("fields:", [summary.field for summary in catalog.fields()])
    print("from Oslo's file:", [catalog.get(edge.source).title for edge in catalog.lineage(oslo, direction="down").edges])

    # Change, and look back.
    catalog.update("co2:oslo:2018", set={"year": 2017}, tags_add=["corrected"])
    newest = catalog.history("co2:oslo:2018")[0]
    print("changed:", [change.field for change in newest.changes], "before:", catalog.at("co2:oslo:2018", 1).metadata["year"])

    # Check: bytes that somebody changed behind the catalog's back are found.
    catalog.path("co2:rome:2019").write_text("day,co2\n1,999\n")
    print("verify:", sorted(each.verdict for each in catalog.verify(all=True)))
