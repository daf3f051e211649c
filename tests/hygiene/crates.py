"""The crates that are linked into `belfry`, as `cargo metadata` knows them."""
import functools, json, pathlib, subprocess, tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What the binary is built for; other platforms leave crates out or have a few more.
PLATFORM = "x86_64-unknown-linux-gnu"


@functools.cache
def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline"]
    command += ["--filter-platform", PLATFORM]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


@functools.cache
def linked():
    """Package ids by the ids that they depend on, from `cli` on: no tests, no build scripts,
    no macros."""
    packages = {package["id"]: package for package in metadata()["packages"]}
    nodes = {node["id"]: node for node in metadata()["resolve"]["nodes"]}
    start = next(key for key, package in packages.items() if package["name"] == "cli")
    found, waiting = {}, [start]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found[current] = sorted(
            dependency["pkg"]
            for dependency in nodes[current]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
            and not is_macro(packages[dependency["pkg"]])
        )
        waiting += found[current]
    return {key: (packages[key], found[key]) for key in found}


def third_party():
    """Packages of the registry, in order of name and version."""
    packages = [package for package, _ in linked().values() if package["source"]]
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def checksums():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}
