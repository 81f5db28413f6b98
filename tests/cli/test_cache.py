import json

import numpy as np


def write_statistics(folder, key):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{key}.npz", num=10, protocol=json.dumps({"network": "net"}))


def test_cache_ls_while_files_come_and_go(call, monkeypatch, tmp_path):
    folder = tmp_path / "cache" / "statistics"
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path / "cache"))
    for key in "abcd":
        write_statistics(folder, key * 20)
    (folder / "broken.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    load = np.load

    def goes(path, **options):
        for gone in ("b", "c"):  # the one that is being opened, and one further on
            (folder / f"{gone * 20}.npz").unlink(missing_ok=True)
        return load(path, **options)

    monkeypatch.setattr(np, "load", goes)
    code, out, _ = call("cache", "ls")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["a" * 12, "broken", "d" * 12]
    assert out.count("10 images") == 2 and out.count("damaged") == 1
