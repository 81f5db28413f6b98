"""The explorer's server answers its own page and nobody else, and no request makes it grow."""

import http.client
import io
import json
import resource
import socket
import threading
from collections import Counter

import numpy as np
import pytest
import torch

from genzoo.explore.server import MAX_BODY


def ask(server, path, body=None, headers=None, token=True, chunked=False):
    """(status, body) of a request as the page sends it, but for the given headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    sent = {**({"X-Token": server.token} if token else {}), **(headers or {})}
    connection.request("GET" if body is None else "POST", path, body, sent, encode_chunked=chunked)
    answer = connection.getresponse()
    return answer.status, answer.read()


def latent(*values):
    return np.array(values, np.float32).tobytes()


def test_pixels_are_what_the_model_decodes(served, toy):
    model = toy(channels=3)
    server = served(model)
    about = json.loads(ask(server, "/about")[1])
    status, body = ask(server, "/decode", latent(0, 1, -1, 2))
    assert status == 200
    made = model.decode(torch.tensor([[0.0, 1, -1, 2]]))
    start = 0
    for part in about["parts"]:
        expected = made.image if part["name"] == "y" else made.parts[part["name"]]
        expected = (expected[0] * 255).round().byte().permute(1, 2, 0).numpy()
        assert body[start : start + expected.size] == expected.tobytes(), part
        start += expected.size
    assert start == len(body)
    assert [part["name"] for part in about["parts"]] == ["y", "sigma", "y1", "y2"] and about["composes"]


@pytest.mark.parametrize("options", [{"branches": 1}, {"latent": (3, 2, 2)}, {"branches": 3, "channels": 3}])
def test_models_without_a_split_with_maps_and_with_mixtures(served, toy, options):
    server = served(toy(**options))
    about = json.loads(ask(server, "/about")[1])
    assert about["composes"] == (options.get("branches") != 1)
    assert len(about["variables"]) * about["elements"] == about["latent_size"]
    for path in ("/encode?image=3", "/sample?sampler=prior&seed=1"):
        status, z = ask(server, path)
        assert status == 200 and len(z) == 4 * about["latent_size"]
        assert ask(server, "/decode", z)[0] == 200


def test_draws_follow_their_seed(served, toy):
    server = served(toy())
    one, two, again = (ask(server, f"/sample?sampler=prior&seed={seed}")[1] for seed in (1, 2, 1))
    assert one == again != two


def test_a_saved_npz_holds_what_was_shown(served, toy):
    server = served(toy())
    z = latent(0, 1, -1, 2)
    pixels = ask(server, "/decode", z)[1]
    status, body = ask(server, "/npz", z + pixels)
    with np.load(io.BytesIO(body), allow_pickle=False) as kept:
        assert status == 200 and kept["z"].tolist() == [[0, 1, -1, 2]]
        assert b"".join(kept[name].tobytes() for name in ("y", "sigma", "y1", "y2")) == pixels
        assert kept["y1"].shape == (1, 16, 16, 1)


@pytest.mark.parametrize("path", ["/", "/about", "/images", "/encode?image=0", "/sample?sampler=prior&seed=0"])
@pytest.mark.parametrize(
    "headers, token",
    [
        ({}, False),
        ({"X-Token": "guessed"}, False),
        ({"X-Token": "ü"}, False),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://127.0.0.1:1"}, True),
        ({"Host": "evil.example"}, True),
        ({"Host": "127.0.0.1"}, True),
    ],
)
def test_strangers_are_refused(served, toy, path, headers, token):
    assert ask(served(toy()), path, headers=headers, token=token)[0] == 403


def test_only_this_machine_is_served_on_a_port_of_its_own(served, toy):
    one, two = served(toy()), served(toy())
    assert one.socket.getsockname()[0] == "127.0.0.1" and one.port != two.port and one.token != two.token
    assert len(one.token) >= 32
    assert ask(one, f"/?token={two.token}", token=False)[0] == 403
    assert ask(one, "/about", headers={"Origin": f"http://127.0.0.1:{one.port}"})[0] == 200


@pytest.mark.parametrize(
    "body", [latent(1, 2, 3), latent(1, 2, 3, 4, 5), b"", b"abc", latent(1, 2, 3, np.nan), latent(1, 2, 3, np.inf)]
)
def test_latents_that_are_none_are_refused(served, toy, body):
    server = served(toy())
    assert ask(server, "/decode", body)[0] == 400 and ask(server, "/npz", body)[0] == 400
    assert ask(server, "/decode", latent(0, 0, 0, 0))[0] == 200


@pytest.mark.parametrize("path", ["/encode?image=24", "/encode?image=-1", "/encode?image=x", "/encode", "/sample?sampler=gmm&seed=0",
                                  "/sample?sampler=prior&seed=99999999999999999999", "/sample?sampler=prior"])  # fmt: skip
def test_questions_that_make_no_sense_are_refused(served, toy, path):
    assert ask(served(toy()), path)[0] == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_a_megabyte_is_refused(served, toy, chunked):
    server = served(toy())
    big = bytes(MAX_BODY + 1)
    body = iter([big[: 1 << 16]] * 17) if chunked else big
    try:
        status = ask(server, "/decode", body, {"Transfer-Encoding": "chunked"} if chunked else {}, chunked=chunked)[0]
    except (BrokenPipeError, ConnectionResetError):  # it was closed before all of it was sent
        status = 413
    assert status == 413
    assert ask(server, "/decode", latent(0, 0, 0, 0))[0] == 200


def test_two_hundred_at_once_are_answered_or_refused_and_then_it_is_as_before(served, toy):
    server = served(toy())
    ask(server, "/decode", latent(0, 0, 0, 0))
    before, statuses, gate = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, Counter(), threading.Barrier(200)

    def one():
        gate.wait()
        statuses[ask(server, "/decode", latent(0, 1, 2, 3))[0]] += 1

    threads = [threading.Thread(target=one) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(statuses.values()) == 200 and statuses.keys() <= {200, 503} and statuses[200] >= 1
    assert server._num_waiting == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB"
    assert ask(server, "/decode", latent(0, 0, 0, 0))[0] == 200


def test_requests_that_never_end_hold_no_place_for_long(served, toy, monkeypatch):
    from genzoo.explore import server as module

    monkeypatch.setattr(module, "BODY_SECONDS", 0.2)
    server = served(toy())
    open_ones = []
    for _ in range(module.MAX_WAITING):
        one = socket.create_connection(("127.0.0.1", server.port))
        one.sendall(f"POST /decode HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-Token: {server.token}\r\n"
                    "Content-Length: 16\r\n\r\nabc".encode())  # fmt: skip
        open_ones.append(one)
    assert b" 408 " in open_ones[0].recv(100)
    assert ask(server, "/decode", latent(0, 0, 0, 0))[0] == 200
    for one in open_ones:
        one.close()
