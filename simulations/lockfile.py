#!/usr/bin/env python3
"""Checks that simulations are built from the crates that the node is built from.

Every package that both lock files name has the same versions and the same contents in both, but for
futures-timer, which this workspace replaces. A crate may be in one of the files alone.
"""

import pathlib
import sys
import tomllib

here = pathlib.Path(__file__).resolve().parent
REPLACED = {"futures-timer"}


def packages(path):
    found = {}
    for package in tomllib.loads(path.read_text())["package"]:
        if "source" in package:
            found.setdefault(package["name"], {})[package["version"]] = package.get("checksum")
    return found


node, own = packages(here.parent / "Cargo.lock"), packages(here / "Cargo.lock")
wrong = []
for name in sorted(REPLACED & own.keys()):
    wrong.append(f"{name} comes from the registry: it must be the one in simulations/{name}")
for name in sorted(node.keys() & own.keys()):
    for version, checksum in own[name].items():
        if version in node[name] and node[name][version] != checksum:
            wrong.append(f"{name} {version} has other contents than the node's")
    # The node's own versions must be there; a simulation's own crates may want others besides.
    if not node[name].keys() & own[name].keys():
        wrong.append(f"{name}: {', '.join(own[name])}, the node has {', '.join(node[name])}")
for line in wrong:
    print(f"simulations/Cargo.lock: {line}", file=sys.stderr)
if wrong:
    print("run `cargo update -p NAME --precise VERSION` in simulations/", file=sys.stderr)
sys.exit(bool(wrong))
