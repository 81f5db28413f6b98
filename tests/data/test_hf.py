import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from genzoo.data import store
from genzoo.data.hf import HF
from genzoo.errors import UserError

datasets = pytest.importorskip("datasets", reason="needs the extra genzoo[hf]")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write(tmp_path / "data", range(10, 30), [100, 101])
    return tmp_path / "data"


def write(folder, train, test, corrupt=()):
    def content(value):
        file = io.BytesIO()
        Image.new("RGB", (20, 16), (value, 0, 0)).save(file, "PNG")
        return {"bytes": b"not a picture" if value in corrupt else file.getvalue(), "path": None}

    folder.mkdir(exist_ok=True)
    for split, values in (("train", train), ("test", test)):
        columns = {"picture": [content(value) for value in values], "label": [3 for _ in values]}
        features = datasets.Features({"picture": datasets.Image(), "label": datasets.Value("int64")})
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def dataset(folder, **options):
    return HF(HF.Config(name="hf", **{"root": str(folder), "image": "picture", "size": 8, **options}))


def reds(images):
    return images[:, 4, 4, 0].tolist()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_becomes_a_store(root, streaming):
    made = dataset(root, streaming=streaming)
    splits = store.prepare(made, made.config)
    assert reds(splits["train"].images) == list(range(10, 30)) and reds(splits["test"].images) == [100, 101]
    write(root, range(50, 55), [7])
    again = dataset(root, streaming=streaming)
    assert reds(store.prepare(again, again.config)["train"].images) == list(range(50, 55))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("skip_corrupt", [False, True])
def test_reading_goes_on_anywhere(root, streaming, skip_corrupt):
    if skip_corrupt:
        write(root, range(60, 80), [1], corrupt=(62, 70))
    made = dataset(root, streaming=streaming, skip_corrupt=skip_corrupt)
    made.locate()
    whole = np.concatenate(list(made.read("train")))
    assert len(whole) == 20 - 2 * skip_corrupt
    assert len(made.notes["train"].get("skipped", [])) == 2 * skip_corrupt
    for start in (1, 5, 17):
        assert np.array_equal(np.concatenate(list(made.read("train", start=start))), whole[start:])


def test_slices_of_splits(root):
    made = dataset(root, train="train[:16]", test="train[16:]")
    made.locate()
    assert reds(np.concatenate(list(made.read("test")))) == [26, 27, 28, 29]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": None}, r"data\.root is not set"),
        ({"test": "train"}, "give other images"),
        ({"test": "train[1:]"}, r"overlap: one of them has all of 'train'"),
        ({"train": "train[:1]", "test": "test+train"}, r"overlap: one of them has all of 'train'"),
        ({"root": "/nowhere/at/all"}, r"data\.root: /nowhere/at/all cannot be loaded"),
        ({"image": "photo"}, r"no column 'photo' of images \(it has: picture \(Image\), label \(Value\)\)"),
        ({"image": "label"}, "no column 'label' of images"),
        ({"train": "trian"}, "cannot be loaded: .*trian"),
    ],
    ids=str,
)
def test_mistakes(root, options, message):
    with pytest.raises(UserError, match=message):
        made = dataset(root, **options)
        made.locate()
        list(made.read("train"))


def test_a_corrupt_image_is_named(root):
    write(root, range(60, 80), [1], corrupt=(62,))
    made = dataset(root)
    made.locate()
    with pytest.raises(UserError, match="split train, row 2 is not an image"):
        list(made.read("train"))


def write_paths(folder, paths):
    """A table that names its images' files in place of holding them."""
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    column = pyarrow.array([{"bytes": None, "path": str(path)} for path in paths], kind)
    features = {b"huggingface": b'{"info": {"features": {"picture": {"_type": "Image"}}}}'}
    table = pyarrow.table({"picture": column}).replace_schema_metadata(features)
    for split in ("train", "test"):
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")


@pytest.mark.parametrize("streaming", [False, True])
def test_images_in_files_of_their_own(root, tmp_path, streaming):
    files = root / "files"
    files.mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(files / f"{i}.png")
    with zipfile.ZipFile(files / "a.zip", "w") as archive:
        archive.write(files / "2.png", "b/2.png")
    there = ["files/0.png", files / "1.png", f"zip://b/2.png::{files}/a.zip"]
    write_paths(root, [*there, files / "gone.png"])
    made = dataset(root, streaming=streaming)
    made.locate()
    with pytest.raises(UserError, match=r"row 3 \(.*gone\.png\) cannot be read: .*No such file"):
        list(made.read("train"))
    made = dataset(root, streaming=streaming, skip_corrupt=True)
    made.locate()
    assert reds(np.concatenate(list(made.read("train")))) == [0, 1, 2]
    assert len(made.notes["train"]["skipped"]) == 1


@pytest.mark.parametrize(
    "path",
    [
        "{tmp}/secret.png",
        "../secret.png",
        "link.png",
        "zip://secret.png::{tmp}/a.zip",
        "zip://x.png::zip://y.zip::{root}/a.zip",
        "http://127.0.0.1:9/x.png",
        "hf://datasets/other/set/x.png",
        "reference://x.png::data:,{{}}",
        "memory://x.png",
        "file://{tmp}/secret.png",
    ],
)
def test_rows_name_files_of_their_own_set_alone(root, tmp_path, path):
    Image.new("RGB", (8, 8), (1, 0, 0)).save(tmp_path / "secret.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "secret.png", "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    write_paths(root, [path.format(tmp=tmp_path, root=root)])
    made = dataset(root)
    made.locate()
    with pytest.raises(UserError, match=r"row 0 .* cannot be read: (it lies outside the set|chained addresses)"):
        list(made.read("train"))


@pytest.mark.parametrize(
    "files", ["{tmp}/outside/train-0.parquet", "http://127.0.0.1:9/x.parquet", "memory://x.parquet"]
)
def test_a_readme_that_leads_out_of_the_set(root, tmp_path, files):
    (tmp_path / "outside").mkdir()
    write(tmp_path / "outside", [1], [2])
    (tmp_path / "outside" / "train-00000-of-00001.parquet").rename(tmp_path / "outside" / "train-0.parquet")
    (root / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
        f"    path: '{files.format(tmp=tmp_path)}'\n---\n"
    )
    with pytest.raises(UserError, match=r"outside of it|cannot be loaded"):
        dataset(root).locate()


@pytest.mark.parametrize(
    "text",
    [
        "---\nconfigs: [\n---\n",
        "---\nconfigs: 3\n---\n",
        "---\n- a\n---\n",
        "---\nconfigs:\n- config_name: a\n  data_files: {train: 3}\n---\n",
        "---\ndataset_info:\n  features:\n  - name: picture\n    dtype: float33\n---\n",
        "---\ndataset_info:\n  features:\n  - name: picture\n    dtype: int64\n---\n",
        "---\nconfigs: !!python/object/apply:os.mkdir [EXECUTED]\n---\n",
        "---\nconfigs:\n- config_name: '\\ud800'\n  data_files: '*'\n---\n",
    ],
)
def test_a_readme_that_is_not_one(root, text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (root / "README.md").write_text(text)
    try:
        made = dataset(root)
        made.locate()
        list(made.read("train"))
    except UserError as error:
        assert str(root) in str(error)
    assert not (tmp_path / "EXECUTED").exists()


@pytest.mark.parametrize("name", ["reference://x::data:,y", "parquet", "memory://a", "csv"])
def test_a_root_that_is_no_set(root, name):
    with pytest.raises(UserError, match="neither a name on the hub"):
        dataset(name).locate()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_damaged_table_is_one_sentence(root, streaming):
    path = root / "train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)  # behind the magic number: the first column
    path.write_bytes(content)
    made = dataset(root, streaming=streaming)
    with pytest.raises(UserError, match=r"data\.root: .* cannot be loaded"):
        made.locate()
        list(made.read("train"))
