"""A page of metrics on standard input, read by Prometheus' own parser for Python, and by rules that it leaves out.

Prints each sample as a line of JSON: name, labels, value. Exit code 1 with a sentence where the page cannot be read.
"""
import json
import re
import sys

from prometheus_client.parser import text_string_to_metric_families

page = sys.stdin.buffer.read().decode()
families = list(text_string_to_metric_families(page))
samples = [sample for family in families for sample in family.samples]

typed = re.findall(r"^# TYPE (\S+) ", page, re.M)
twice = {name for name in typed if typed.count(name) > 1}
assert not twice, f"families with two types: {twice}"

seen = set()
for name, labels, *_ in samples:
    key = name, tuple(sorted(labels.items()))
    assert key not in seen, f"a sample that is there twice: {key}"
    seen.add(key)

# a name with its labels, the parser's own way of reading them aside
for line in page.splitlines():
    names = re.findall(r'[{,]([a-zA-Z_][a-zA-Z0-9_]*)="', re.sub(r'\\.', "", line))
    assert line.startswith("#") or len(names) == len(set(names)), f"a label that is there twice: {line}"

for family in families:
    if family.type == "histogram":
        parts = {sample.name.removeprefix(family.name) for sample in family.samples}
        assert parts == {"_bucket", "_sum", "_count"}, f"{family.name} has {parts}"
        for count in (sample for sample in family.samples if sample.name == family.name + "_count"):
            buckets = [
                sample.value
                for sample in family.samples
                if sample.name == family.name + "_bucket"
                and {**sample.labels, "le": ""} == {**count.labels, "le": ""}
            ]
            assert buckets == sorted(buckets) and buckets[-1] == count.value, f"{count} against {buckets}"
    else:
        assert all(sample.name.startswith(family.name) for sample in family.samples), family.name

for name, labels, value, *_ in samples:
    # neither NaN nor an infinity is JSON
    print(json.dumps([name, labels, repr(value)]))
