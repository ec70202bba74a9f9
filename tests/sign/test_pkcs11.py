"""A key in a token, where PyKCS11, SoftHSM and OpenSC's tool are installed; else the message without them."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from card.making import checkpoint as copied
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from sign import making
from sign.making import verified

from proofcard.errors import Usage

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
THERE = find_spec("PyKCS11") is not None and MODULE.exists() and shutil.which("pkcs11-tool") is not None


def test_a_pin_is_not_for_the_command_line(tmp_path: Path) -> None:
    copied(tmp_path)
    with pytest.raises(
        Usage, match="a PIN on the command line is seen by others: put it into a file, pin-source"
    ):
        making.sign(tmp_path, "pkcs11='pkcs11:token=t;object=mine?pin-value=1234'")


@pytest.mark.skipif(THERE, reason="PyKCS11 is installed")
def test_without_the_library_the_extra_is_named(tmp_path: Path) -> None:
    copied(tmp_path)
    with pytest.raises(Usage, match="requires the 'pkcs11' extra"):
        making.sign(tmp_path, "pkcs11='pkcs11:token=t;object=mine'")


@pytest.mark.skipif(not THERE, reason="NOT CHECKED HERE: it needs PyKCS11, SoftHSM and pkcs11-tool")
def test_a_token_s_key_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    (tmp_path / "pin").write_text("1234")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    tool = ["pkcs11-tool", "--module", str(MODULE)]
    for words in (
        ["softhsm2-util", "--init-token", "--free", "--label", "t", "--pin", "1234", "--so-pin", "5678"],
        [*tool, "--login", "--pin", "1234", "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01"],
        [*tool, "--read-object", "--type", "pubkey", "--id", "01", "-o", str(tmp_path / "public.der")],
    ):
        subprocess.run(words, check=True, capture_output=True)
    uri = f"pkcs11:token=t;id=%01?pin-source={tmp_path / 'pin'}&module-path={MODULE}"
    made = making.signed(tmp_path, f"pkcs11='{uri}'")
    key = load_der_public_key((tmp_path / "public.der").read_bytes())
    (tmp_path / "key.pub").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert (made.signer.method, len(made.signer.public_key or "")) == ("pkcs11", 64)
    assert verified(tmp_path / "checkpoint", public_key=tmp_path / "key.pub")[0] == 0
