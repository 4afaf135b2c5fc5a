"""Print every package of this environment as a pip constraint, by name and version alone.

A package that needs a newer Python than MaskLoop itself gets a marker, so that the same file
serves the older one (where pip then chooses that package's version). The local part of a version
(``+cpu``) is left out: both builds of PyTorch satisfy the pin.
"""

from importlib.metadata import distributions

from packaging.specifiers import SpecifierSet
from packaging.version import Version

OLDEST, NEWEST = 10, 20


def marker(requires_python: str | None) -> str:
    allowed = SpecifierSet(requires_python or "")
    first = next(minor for minor in range(OLDEST, NEWEST) if allowed.contains(f"3.{minor}.9"))
    return "" if first == OLDEST else f' ; python_version >= "3.{first}"'


def main() -> None:
    print("# Exact versions of everything that is tested together. Written by `make lock`; used by pip -c.")
    pins = {}
    for package in distributions():
        name = package.metadata["Name"].lower().replace("_", "-")
        if name not in {"maskloop", "pip", "setuptools", "wheel"}:
            pins[name] = f"{name}=={Version(package.version).public}{marker(package.metadata['Requires-Python'])}"
    for name in sorted(pins):
        print(pins[name])


if __name__ == "__main__":
    main()
