import fsspec
import pytest
from fsspec.registry import available_protocols
from hypothesis import given
from hypothesis import strategies as st

from genzoo.data.addresses import PACKED, PROTOCOLS, only_listed, refuse
from genzoo.data.webdataset import WebDataset
from genzoo.errors import UserError

LISTED = {"file", "http", "https", "s3", "gs", "abfs", "hf"}


@given(st.text(), st.text(alphabet="abcdefgh/._-{}*0123456789", min_size=1))
def test_what_is_accepted_is_opened_by_a_listed_protocol_alone(start, end):
    for address in (start + end, f"{start}://{end}", f"{start}::{end}", f"{start}:{end}"):
        try:
            refuse(address, "data.root")
        except UserError:
            continue
        chain = fsspec.core._un_chain(address, {})
        assert len(chain) == 1 and chain[0][1] in LISTED


@pytest.mark.parametrize("protocol", sorted({*available_protocols(), "nothing"} - LISTED))
def test_other_protocols_are_refused_with_the_list(protocol):
    with pytest.raises(
        UserError, match=r"data\.root: .* is refused: .*(file, http, https, s3, gs, abfs, hf|it is data)"
    ):
        refuse(f"{protocol}://a/b.tar", "data.root")
    with pytest.raises(UserError, match="not chained"):
        refuse(f"{protocol}::a/b.tar", "data.root")
    if protocol not in PACKED:
        with only_listed(), pytest.raises(ValueError, match="refused"):
            fsspec.open("data:,a" if protocol == "data" else f"{protocol}://a/b")
        with only_listed(), pytest.raises(ValueError, match="refused"):
            fsspec.filesystem(protocol)


def test_the_list_holds_for_a_while_only(tmp_path):
    with only_listed(), fsspec.open(str(tmp_path / "x"), "wb") as file:
        file.write(b"1")
    assert fsspec.filesystem("memory").protocol == "memory"
    inside = [only_listed() for _ in range(3)]
    for one in inside:
        one.__enter__()
    for one in (inside[1], inside[0]):  # as generators end that were begun together
        one.__exit__(None, None, None)
        with pytest.raises(ValueError, match="refused"):
            fsspec.filesystem("memory")
    inside[2].__exit__(None, None, None)
    assert fsspec.filesystem("memory").protocol == "memory"
    assert set(PROTOCOLS) == LISTED


def test_an_address_in_a_recipe_runs_no_template(tmp_path):
    text = '{"version": 1, "templates": {"f": "{{ 7 * 7 }}"}, "refs": {"x": ["{{f}}"]}}'
    for root in (f"reference://x::data:,{text}", f"data:,{text}", "simplecache::http://127.0.0.1:9/x.tar"):
        dataset = WebDataset(WebDataset.Config(root=root))
        with pytest.raises(UserError, match="is refused"):
            dataset.locate()
