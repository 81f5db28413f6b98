"""Lines of genzoo by folder, all of them and those of statements, at one commit and at another.

    python benchmarks/lines.py OLD [NEW]

NEW: HEAD by default. A line of statements is one on which a statement other than a docstring begins.
"""

import argparse
import ast
import io
import subprocess
import tarfile
from collections import Counter


def counted(commit: str) -> tuple[Counter[str], Counter[str]]:
    """Folder -> all lines, and lines of statements, of the Python files of the package."""
    archive = subprocess.run(["git", "archive", commit, "genzoo"], check=True, capture_output=True).stdout
    lines, statements = Counter(), Counter()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".py"):
                text = tar.extractfile(member).read().decode()
                folder = member.name.rpartition("/")[0]
                lines[folder] += len(text.splitlines())
                statements[folder] += len({node.lineno for node in ast.walk(ast.parse(text)) if begins(node)})
    return lines, statements


def begins(node: ast.AST) -> bool:
    words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return isinstance(node, ast.stmt) and not words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old")
    parser.add_argument("new", nargs="?", default="HEAD")
    asked = parser.parse_args()
    columns = [*counted(asked.old), *counted(asked.new)]
    print(f"{'':22}{asked.old:>16}{asked.new:>24}\n{'':22}" + f"{'all':>8}{'statements':>12}" * 2)
    for folder in sorted(set().union(*columns)):
        print(
            f"{folder:22}" + "".join(f"{column[folder]:{8 if k % 2 == 0 else 12}}" for k, column in enumerate(columns))
        )
    print(f"{'all':22}" + "".join(f"{sum(c.values()):{8 if k % 2 == 0 else 12}}" for k, c in enumerate(columns)))


if __name__ == "__main__":
    main()
