import os
import stat

import pytest
import torch
from click.testing import CliRunner

from gradwire.cli.identity import identity
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, initial_states, parse
from gradwire.secure import keys
from gradwire.secure.identity_files import Identities, fingerprint, read_key, read_members, write_key
from gradwire.wire import client

LAYOUT = Layout({"w": (4, 3)})


def group(folder, clients=3):
    """Key files and the list of members."""
    public = {client(i): write_key(folder / f"{i}.pem") for i in range(clients)}
    lines = ["# who may join", *(f"{party} {key.hex()}  # {party}'s machine" for party, key in public.items())]
    (folder / "members").write_text("\n".join(lines))
    return public


def test_a_key_is_written_once_for_its_owner_alone_and_read_back(tmp_path):
    public = group(tmp_path)
    assert stat.S_IMODE((tmp_path / "0.pem").stat().st_mode) == 0o600
    assert keys.verification_key(read_key(tmp_path / "0.pem")) == public["client:0"]
    assert read_members(tmp_path / "members") == public
    assert len(set(public.values())) == 3
    with pytest.raises(GradwireError, match=r"the key cannot be written to .*: File exists"):
        write_key(tmp_path / "0.pem")


def test_fingerprints_are_the_known_ones():
    assert fingerprint(bytes(32)) == "9e0d 3a69 ff64 1258 e015"
    assert fingerprint(bytes(31) + b"\x01") != fingerprint(bytes(32))


@pytest.mark.parametrize("spec", ["sga", "ssga:compression=2", "powersgd:rank=1+sga"])
def test_clients_join_with_their_keys_and_strangers_are_named(tmp_path, spec):
    public, scheme = group(tmp_path), parse(spec)
    shown = {party: {"verification": torch.tensor(list(key), dtype=torch.uint8)} for party, key in public.items()}
    own = Identities.load(tmp_path / "1.pem", tmp_path / "members")
    (state,) = initial_states(scheme, LAYOUT, ["client:1"], 0, lambda told: {**shown, **told}, own).values()
    assert scheme.key_exchange.public_keys(state)["verification"].tolist() == list(public["client:1"])
    forged = {**shown, "client:2": shown["client:0"]}
    with pytest.raises(GradwireError, match=r"client:2 shows a key with the fingerprint .*; the list of members has"):
        initial_states(scheme, LAYOUT, ["client:1"], 0, lambda told: {**forged, **told}, own)
    stranger = {**shown, "client:3": shown["client:0"]}
    with pytest.raises(GradwireError, match="client:3 is not among the members client:0, client:1, client:2"):
        initial_states(scheme, LAYOUT, ["client:1"], 0, lambda told: {**stranger, **told}, own)


def test_what_is_no_identity_is_refused(tmp_path):
    group(tmp_path)
    own = Identities.load(tmp_path / "0.pem", tmp_path / "members")
    with pytest.raises(GradwireError, match="an identity is one client's, in a process of its own; none exchanges no"):
        initial_states(parse("none"), LAYOUT, ["client:0"], 0, identities=own)
    with pytest.raises(GradwireError, match="in a process of its own; 2 clients live here"):
        initial_states(parse("sga"), LAYOUT, ["client:0", "client:1"], 0, identities=own)
    write_key(tmp_path / "stranger.pem")
    with pytest.raises(GradwireError, match=r"has the fingerprint .*, which is none of those in"):
        Identities.load(tmp_path / "stranger.pem", tmp_path / "members")
    os.chmod(tmp_path / "0.pem", 0o644)
    with pytest.raises(GradwireError, match=r"0.pem can be read by others \(mode 644\); it must be 600"):
        read_key(tmp_path / "0.pem")
    (tmp_path / "text").write_text("no key")
    with pytest.raises(GradwireError, match="text holds no key"):
        read_key(tmp_path / "text")
    with pytest.raises(GradwireError, match="line 1: 'no key'; it must be a party and its key in hex"):
        read_members(tmp_path / "text")
    (tmp_path / "twice").write_text(f"a {bytes(32).hex()}\nb {bytes(32).hex()}")
    with pytest.raises(GradwireError, match="line 2: b has no key of 32 bytes, or one that is there already"):
        read_members(tmp_path / "twice")


def test_the_commands_show_what_people_compare(tmp_path):
    run, file = CliRunner(), str(tmp_path / "key")
    made = run.invoke(identity, ["new", file, "--party", "client:4"], catch_exceptions=False).output
    shown = run.invoke(identity, ["show", file, "--party", "client:4"], catch_exceptions=False).output
    assert made == shown
    line = made.splitlines()[1].removeprefix("for the list of members: ")
    (tmp_path / "members").write_text(line)
    told = run.invoke(identity, ["members", str(tmp_path / "members")], catch_exceptions=False).output
    assert told.split() == ["client:4", *made.splitlines()[0].removeprefix("fingerprint: ").split()]
