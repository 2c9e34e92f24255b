#!/usr/bin/env bash
# A paper library: needs `pip install cubeport ./plugin`. Run it in an empty folder that holds library.bib and more.ris.
set -eu
cubeport init --core --quiet work > made
cat >> work/.cubeport/catalog.yaml <<'YAML'
templates:
  kinds:
    paper: {directory: "papers/{metadata.year}", filename: "{metadata.citekey}{original_suffix}"}
YAML
export CUBEPORT_INSTANCE=work

cubeport bib import library.bib more.ris
echo "-- again"
cubeport bib import library.bib

printf '%%PDF-1.4 not really\n' > scan0001.pdf
cubeport bib attach lovelace1843 scan0001.pdf
echo "-- filed as"
(cd work/files && find . -name '*.pdf')

echo "-- by author, year, tag, words"
cubeport search 'authors:lovelace' --format reference
cubeport search 'year:1904' --format reference
cubeport search 'tags=climate' --order year --format reference
cubeport search --text 'svante carbonic' --format reference

echo "-- who cites Arrhenius"
cubeport lineage bib:arrhenius1896 --down --json | python -c 'import json, sys; print([edge["rel"] for edge in json.load(sys.stdin)["edges"]])'

echo "-- a table"
cubeport search --order -year --fields citekey,year,authors --format csv

echo "-- a folder of links"
cubeport view by-year --template '{metadata.year}/{title_slug}{original_suffix}' --apply > linked
find by-year -name '*.pdf'
