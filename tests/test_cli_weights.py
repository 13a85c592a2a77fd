from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import VedetteError
from pipeline.yolov6 import weights
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.variants import VARIANTS
from tests import reference, runs
from workers import weights as commands
from workers.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int | str | None
    stdout: str
    stderr: str

    def fields(self) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in self.stdout.splitlines())


Vedette = Callable[..., Outcome]
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def vedette(capsys: pytest.CaptureFixture[str]) -> Vedette:
    """Calls the command in this process."""

    def call(*arguments: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        outcome = Outcome(ended.value.code or 0, *capsys.readouterr())
        assert "Traceback" not in outcome.stderr
        return outcome

    return call


@pytest.fixture(scope="module")
def lite_state() -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    return reference.state_of(YOLOv6(VARIANTS["0.4.x-lite_s"], 3))


@pytest.fixture
def saved(tmp_path: Path, lite_state: dict[str, np.ndarray]) -> Path:
    return save(tmp_path / "own.safetensors", lite_state, ["car", "bus", "ox"])


def save(path: Path, state: dict[str, np.ndarray], classes: list[str]) -> Path:
    description = {
        "variant": "0.4.x-lite_s",
        "classes": classes,
        "input_size": (320, 320),
        "source": "e3b0",
    }
    weights.save(path, state, description)
    return path


def test_import_says_what_it_wrote_and_show_says_the_same(
    vedette: Vedette, shared: Path, tmp_path: Path
) -> None:
    source = shared / "yolov6" / "pretrained" / "yolov6lite_m.safetensors"
    output = tmp_path / "m.safetensors"

    imported = vedette("weights", "import", source, "-o", output)
    shown = vedette("weights", "show", output)

    assert (imported.code, shown.code) == (0, 0)
    assert imported.stdout == shown.stdout
    fields = shown.fields()
    assert fields["variant"] == "0.4.x-lite_m"
    assert fields["classes"] == "80"
    assert fields["names"].startswith("person, bicycle, car")
    assert fields["input_size"] == "320 320"
    assert fields["parameters"] == "778,733"
    assert len(fields["digest"]) == 12
    assert len(fields["source_digest"]) == 64


def test_import_takes_a_variant_and_a_list_of_names(
    vedette: Vedette, saved: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("lorry\ntram\nyak\n")
    output = tmp_path / "out.safetensors"
    options = ("--output", output, "--variant", "0.4.x-lite_s", "--names", names)

    outcome = vedette("weights", "import", saved, *options)

    assert outcome.code == 0
    assert outcome.fields()["names"] == "lorry, tram, yak"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["weights", "show", "/nowhere"], "/nowhere does not exist"),
        (["weights", "show", "/dev/null"], "/dev/null is not a regular file"),
        (["weights", "show"], "requires an argument"),
        (["weights", "import", "/nowhere", "-o", "x.safetensors"], "/nowhere does not exist"),
        (["weights", "import", "/nowhere", "-o", "x.pt"], "does not end in .safetensors"),
        (["weights", "import", "/nowhere"], "--output requires"),
        (["weights", "fetch", "yolov6n"], "known are 0.4.x-n"),
        (["weights", "fetch", "9.x-n"], "known are 0.4.x-n"),
        (["weights", "shw"], "Unknown command"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(
    vedette: Vedette, arguments: list[str], said: str
) -> None:
    outcome = vedette(*arguments)

    assert (outcome.code, outcome.stdout) == (2, "")
    assert len(outcome.stderr.splitlines()) == 1
    assert said in outcome.stderr


def test_a_failed_import_leaves_nothing_behind(
    vedette: Vedette, saved: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.safetensors"

    outcome = vedette("weights", "import", saved, "-o", output, "--variant", "0.4.x-n")

    assert outcome.code == 2
    assert not output.exists()


def test_class_names_cannot_command_the_terminal(
    vedette: Vedette, tmp_path: Path, lite_state: dict[str, np.ndarray]
) -> None:
    path = save(tmp_path / "x.safetensors", lite_state, ["\x1b[2J", "a\nb: c", "[red]"])

    outcome = vedette("weights", "show", path)

    assert outcome.fields()["names"] == "?[2J, a?b: c, [red]"


@pytest.mark.slow
def test_list_has_a_row_for_every_variant_with_what_it_costs(vedette: Vedette) -> None:
    outcome = vedette("weights", "list")

    head, *rows = (line.split() for line in outcome.stdout.splitlines())
    assert head == ["variant", "input", "parameters", "GFLOPs", "kind"]
    assert [row[0] for row in rows] == list(VARIANTS)
    assert rows[0][:5] == ["0.4.x-n", "640x640", "4.65", "M", "11.32"]


def test_fetch_without_a_network_tells_the_manual_way(
    vedette: Vedette, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://user:hunter2@127.0.0.1:9")

    outcome = vedette("weights", "fetch", "0.4.x-lite_s", "-o", "s.safetensors")

    licence, sentence = outcome.stderr.splitlines()
    assert outcome.code == 1
    assert "GPL-3.0" in licence
    assert "https://github.com/meituan/YOLOv6/releases/download/0.4.0/yolov6lite_s.pt" in sentence
    assert "Connection refused" in sentence
    assert "vedette weights import yolov6lite_s.pt -o s.safetensors" in sentence
    assert "hunter2" not in outcome.stderr


@pytest.fixture(autouse=True)
def loopback_without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of our own for the loopback, as files in one folder."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost -keyout key.pem -out certificate.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@contextmanager
def release_page(certificate: Path, answer: Answer) -> Iterator[str]:
    """The address of an HTTPS server on the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"https://localhost:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join(10)


def giving(body: bytes, *, announced: int | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(announced or len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def redirecting(address: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", address)
        request.end_headers()

    return answer


def missing(request: BaseHTTPRequestHandler) -> None:
    request.send_error(404)


def test_fetch_downloads_and_imports(
    certificate: Path,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "certificate.pem"))
    output = tmp_path / "fetched.safetensors"

    with release_page(certificate, giving(saved.read_bytes())) as address:
        commands.fetch("0.4.x-lite_s", output, release=address)

    assert weights.inspect(output).variant == "0.4.x-lite_s"
    assert "GPL-3.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(missing, "the server said 404 Not Found", id="missing"),
        pytest.param(redirecting("http://localhost/x"), "is not https", id="redirect to http"),
        pytest.param(giving(b"abc", announced=9), "ended after 3 of 9 bytes", id="cut short"),
    ],
)
def test_an_answer_that_is_not_the_file_is_one_sentence(
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    said: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "certificate.pem"))

    with (
        release_page(certificate, answer) as address,
        pytest.raises(VedetteError, match=said),
    ):
        commands.fetch("0.4.x-lite_s", tmp_path / "x.safetensors", release=address)

    assert not (tmp_path / "x.safetensors").exists()


def test_a_server_that_cannot_prove_its_name_is_not_believed(
    certificate: Path, tmp_path: Path
) -> None:
    with (
        release_page(certificate, giving(b"abc")) as address,
        pytest.raises(VedetteError, match="certificate verify failed"),
    ):
        commands.fetch("0.4.x-lite_s", tmp_path / "x.safetensors", release=address)


def test_fetch_goes_over_https_alone(tmp_path: Path) -> None:
    with pytest.raises(VedetteError, match="is not https"):
        commands.fetch("0.4.x-n", tmp_path / "x.safetensors", release="http://127.0.0.1:9/")


@pytest.mark.slow
def test_a_reader_of_a_list_may_leave_early() -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{runs.VEDETTE} weights list | head -n 1"],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0
    assert done.stdout.startswith("variant")
    assert done.stderr == ""
