"""Write the tables of the pages below from the committed results: `python benchmarks/readme.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "training.md", RESULTS / "README.md")
MARKS = re.compile(r"(<!-- (\w+): [^\n]*-->\n).*?(<!-- end of \2 -->)", re.DOTALL)
FAMILIES = {"vae": "", "split": "Split VAE, ", "vq": "VQ-VAE, "}  # before the network's size


def read(name: str) -> dict:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    """The first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def training() -> list[str]:
    """Images/s of every trainer over genzoo's bare loop, network by network."""
    found = [read(path.name) for path in sorted(RESULTS.glob("training_*.json"))]
    lines = []
    for measured in found:
        on_cpu = measured["device"].startswith("cpu")
        names = {"pythae": "pythae, in fp32"} if on_cpu and measured["precision"] == "bf16" else {}
        _, _, before = measured["command"].partition("--before ")
        names |= {"before": f"genzoo at {Path(before.split()[0]).name}"} if before else {}
        rows = [
            [
                f"{FAMILIES[row.get('family', 'vae')]}{row['network']}, {row['size']}x{row['size']}, "
                f"{names.get(row['trainer'], row['trainer'])}",
                *(f"{row[key]:.2f}" for key in ("to_bare", "genzoo_to_this")),
                f"{row['peak_bytes'] / 2**20:.0f}",
            ]
            for row in measured["training"]
        ]
        head = [f"{measured['precision']}, {measured['device']}", "of the bare loop", "genzoo to this", "peak MiB"]
        lines += [f"`{measured['command']}`", "", *markdown(head, rows), ""]
    for size, rates in found[0]["feeds"].items():
        others = (f"{rates['genzoo'] / rate:.0f} times {name}" for name, rate in rates.items() if name != "genzoo")
        lines.append(f"Images/s of genzoo's data feed alone at {size}: " + ", ".join(others) + ".")
    return lines


def speed() -> list[str]:
    """One paragraph: what training and scoring gain over others on the medium network and the benchmark's images."""
    rows = {}
    for precision in ("bf16", "fp32"):
        measured = read(f"training_{precision}.json")
        rows[precision] = {row["trainer"]: row for row in measured["training"] if in_middle(row)}
    feeds = measured["feeds"]["32px"]
    tools = read("fid.json")["tools"]
    gain = {what: tools["clean-fid"][what]["seconds"] / tools["genzoo"][what]["seconds"] for what in ("cold", "cached")}
    bf16, fp32 = rows["bf16"], rows["fp32"]
    return [
        f"A plain VAE of {bf16['bare']['num_parameters']:,} parameters at 32x32 ({measured['device']}) trains with "
        f"everything on at {bf16['genzoo']['to_bare']:.2f} of a bare PyTorch loop in bf16 and "
        f"{fp32['genzoo']['to_bare']:.2f} in fp32. In bf16 it is {bf16['lightning']['genzoo_to_this']:.2f} times as "
        f"fast as a Lightning module over a torchvision DataLoader and {bf16['pythae']['genzoo_to_this']:.2f} times as "
        f"fast as pythae, which on a CPU knows fp32 alone; with all of them in fp32, "
        f"{fp32['lightning']['genzoo_to_this']:.2f} and {fp32['pythae']['genzoo_to_this']:.2f} times. "
        f"The data feed alone gives "
        f"{feeds['genzoo'] / feeds['torchvision, 2 workers']:.0f} times the images of that DataLoader. FID takes "
        f"1/{gain['cold']:.1f} of clean-fid's time, and 1/{gain['cached']:.1f} with the reference's statistics at hand."
    ]


def in_middle(row: dict) -> bool:
    return row["network"] == "medium" and row["size"] == 32


def options() -> list[str]:
    """Images/s and memory with one option changed, over those with the defaults."""
    measured = read("options.json")
    lines = [f"`{measured['command']}`", ""]
    for case, rows in measured["cases"].items():
        found = [
            [
                name,
                f"{row['to_defaults']:.2f}",
                f"{row['start_s']:.1f}" if case == "training" else "",
                f"{row['peak_bytes'] / 2**20:.0f}",
            ]
            for name, row in rows.items()
        ]
        lines += [
            *markdown([f"{case} ({measured['device']})", "speed, of the defaults", "start, s", "peak MiB"], found),
            "",
        ]
    return lines[:-1]


def fid() -> list[str]:
    measured = read("fid.json")
    tools, base = measured["tools"], measured["tools"]["clean-fid"]
    rows = [
        [
            tool,
            *(f"{base[what]['seconds'] / row[what]['seconds']:.2f}" for what in ("cold", "cached")),
            f"{row['cold']['peak_mb']:.0f}",
            f"{row['cold']['value']:.4f}",
            *(f"{seconds:.2f}" for seconds in row["stages"].values()),
        ]
        for tool, row in tools.items()
    ]
    stages = [f"{name}, s" for name in base["stages"]]
    head = ["tool", "times clean-fid, cold", "with a cached reference", "peak MB", "value", *stages]
    about = f"{measured['num']} images of {measured['size']}x{measured['size']} a side, {measured['weights']} weights, "
    return [*markdown(head, rows), "", f"{about}medians of {measured['rounds']} rounds."]


def explorer() -> list[str]:
    found = read("explorer.json")
    rows = [
        [f"{one['run']}, {one['height']}x{one['width']}", *(f"{one[key]:.0f}" for key in ("median_ms", "p95_ms"))]
        for one in found
    ]
    return markdown([f"cpu, {found[0]['cores']} cores", "median, ms", "95 of 100 below, ms"], rows)


def posteriors() -> list[str]:
    """What a sampler's posteriors take of memory and disk, and how fast codes are drawn."""
    stored, drawn = read("latents.json"), read("autoregressive.json")
    names = [*stored[0]["peak_bytes"]]
    rows = [
        [f"{row['num']:,}, {row['processes']} process" + "es" * (row["processes"] > 1),
         *(f"{size / 2**20:.0f}" for size in (row["disk_bytes"], *(row["peak_bytes"][name] for name in names)))]
        for row in stored
    ]  # fmt: skip
    shape = "x".join(map(str, stored[0]["shape"][2:]))
    return [
        *markdown([f"posteriors of {shape}", "disk, MiB", *(f"{name}, MiB" for name in names)], rows),
        "",
        f"{drawn['images']:,} images of {drawn['codes_an_image']} codes are drawn by `autoregressive` in "
        f"{drawn['seconds']['genzoo']:.0f} s on {drawn['threads']} thread, {drawn['speed_of_bare']:.2f} times as fast "
        "as by a bare transformer with the same cache.",
    ]


def stage_two() -> list[str]:
    """A step of learned samplers beside a bare loop's, and what a second process gains."""
    found = read("stage_two.json")
    rows = [
        [name, f"{row['ms_a_step']['genzoo']:.0f}", f"{row['to_bare']:.2f}"] for name, row in found["steps"].items()
    ]
    gains = (f"{name} learns {row['times_faster']:.2f} times as fast" for name, row in found["processes"].items())
    return [
        f"`{found['command']}`",
        "",
        *markdown([found["device"], "ms a step", "of the bare loop"], rows),
        "",
        f"On two processes of one thread each {', '.join(gains)}.",
    ]


TABLES = {
    "stage_two": stage_two,
    "posteriors": posteriors,
    "explorer": explorer,
    "speed": speed,
    "training": training,
    "options": options,
    "fid": fid,
}


def written(text: str) -> str:
    """The text with a new table between each pair of marks."""
    return MARKS.sub(lambda match: "\n".join([match[1], *TABLES[match[2]](), "", match[3]]), text)


def main() -> None:
    for path in PAGES:
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
