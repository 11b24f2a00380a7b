"""larkdrop as a system service under a real, booted systemd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import free_port, picture, sidecar_of, wait_for_sidecar, wait_until
from tests.service.test_monitoring import get, samples
from tests.systemd.conftest import SECRET, Service
from tests.systemd.guest import CHECKOUT, documented

UNITS = ("larkdrop.service", "larkdrop@shop.service")


def keys_of(pictures: list[Path]) -> list[str]:
    """The key of every picture, once all have one."""
    return [wait_for_sidecar(path)["image_key"] for path in pictures]


def test_the_documented_install_answers_a_drop(service: Service) -> None:
    """After the documented commands, a drop has its key beside it and in the result log."""
    key = service.drop_answered()["image_key"]
    log = service.guest.path("/var/log/larkdrop/results.jsonl")
    wait_until(lambda: str(key) in log.read_text(), what="the result log's line")
    assert service.guest.run("systemctl", "is-enabled", "larkdrop") == "enabled"


def test_the_commands_for_every_day(service: Service) -> None:
    """What docs/service.md says to look with is there to look with."""
    (look,) = documented("Day to day")
    commands = [line.split("#")[0].strip() for line in look.splitlines()]
    assert len(commands) == 5
    for command in commands:
        following = re.search(r" -[fF]\b", command)
        service.guest.bash(f"timeout 1 {command} || test $? = 124" if following else command)


def test_ready_only_after_the_first_try_for_a_token(service: Service) -> None:
    """Systemctl start waits for the first answer of Lark, and no longer than that."""
    service.systemctl("stop")
    service.lark.faults.token_delay = 1.0
    before = service.lark.calls["token"]
    service.systemctl("start", "--no-block")
    wait_until(lambda: service.lark.calls["token"] > before, what="the try for a token")
    assert service.state == "activating"
    service.systemctl("start")
    assert service.state == "active"
    assert service.drop_answered()["image_key"]


def test_ready_though_lark_is_down(service: Service) -> None:
    """An outage at boot does not keep the service from starting; it resumes by itself."""
    service.systemctl("stop")
    service.lark.faults.down = True
    service.systemctl("start")
    waiting = service.drop()
    service.lark.faults.down = False
    assert wait_for_sidecar(waiting)["image_key"]


def test_a_user_of_the_inboxs_group_drops_and_reads(service: Service) -> None:
    """Who is in the group larkdrop drops pictures and reads the sidecars, also with a strict umask."""
    service.guest.bash("useradd -m -G larkdrop alice")
    service.guest.path("/tmp/fresh.png").write_bytes(picture(70_000))
    service.guest.bash("umask 027; cat /tmp/fresh.png >/srv/inbox/alice.png", user="alice")
    key = wait_for_sidecar(service.guest.path("/srv/inbox/alice.png"))["image_key"]
    assert key in service.guest.run("cat", "/srv/inbox/alice.png.lark.json", user="alice")
    assert key in service.guest.run("tail", "-n", "1", "/var/log/larkdrop/results.jsonl", user="alice")


def test_one_of_the_group_asks_how_it_is(service: Service) -> None:
    """status, explain and keys work for the inbox's group, without the secret; for others they say what to do."""
    service.drop_answered()
    name = next(service.guest.path("/srv/inbox").glob("*.png")).name
    service.guest.bash("id carol 2>/dev/null || useradd -m -G larkdrop carol; id dave 2>/dev/null || useradd -m dave")
    command = "/opt/larkdrop/bin/larkdrop {} --config /etc/larkdrop/config.toml"
    service.guest.path("/srv/inbox/no-picture.png").unlink(missing_ok=True)
    said = service.guest.bash(command.format("status"), user="carol")
    assert "larkdrop is running, since" in said
    assert "It was uploaded at" in service.guest.bash(f"{command.format('explain')} /srv/inbox/{name}", user="carol")
    assert service.guest.bash(f"{command.format('keys')} --key-only {name}", user="carol")
    refused = service.guest.bash(command.format("status"), user="dave", check=False)
    assert "can't be read" in refused
    assert "Traceback" not in refused
    service.systemctl("stop")
    assert service.guest.bash(f"{command.format('keys')} --key-only {name}", user="carol")
    assert "is not running" in service.guest.bash(command.format("status"), user="carol")


def test_an_inbox_made_again_is_seen_where_its_parent_is_open(service: Service) -> None:
    """As docs/service.md says: open the folder above an inbox that comes and goes."""
    service.drop_in("[Service]\nReadWritePaths=-/srv\n")
    service.systemctl("restart")
    service.guest.bash("mv /srv/inbox /srv/before")
    wait_until(lambda: service.guest.events(service.unit, "folder_gone"), what="the folder to be missed")
    service.guest.bash("install -d -m 2770 -o larkdrop -g larkdrop /srv/inbox")
    wait_until(lambda: service.guest.events(service.unit, "folder_back"), what="the folder to be found")
    assert service.drop_answered()["image_key"]


def test_reload_tries_a_held_gate_now(service: Service) -> None:
    """While held, STATUS says why and what to do; systemctl reload resumes at once."""
    service.lark.faults.bot_off = True
    held = service.drop()
    wait_until(lambda: "1 waiting, held since" in service.status, what=lambda: f"STATUS to say why: {service.status}")
    assert "bot" in service.status.lower()
    errors = service.guest.log(service.unit, "-p", "err")
    assert "lark_held" in errors[-1]
    service.lark.faults.bot_off = False
    service.systemctl("reload")
    assert wait_for_sidecar(held)["image_key"]
    wait_until(lambda: "held" not in service.status and "0 waiting" in service.status, what="STATUS to be well again")


def test_metrics_and_health_from_outside(service: Service) -> None:
    """As docs/monitoring.md says: no drop-in is needed, and the metrics of the process are there too."""
    config, port = service.guest.path("/etc/larkdrop/config.toml"), free_port()
    before = config.read_text()
    try:
        config.write_text(f'{before}\n[metrics]\nlisten = "127.0.0.1:{port}"\n')
        service.systemctl("restart")
        assert get(port, "/readyz") == (200, "larkdrop is ready.\n")
        assert get(port, "/healthz") == (200, "All is well.\n")
        service.drop_answered()
        wait_until(lambda: samples(port)["larkdrop_outcomes_total", "/srv/inbox", "uploaded"] == 1, what="the outcome")
        assert samples(port)["process_resident_memory_bytes",] > 1e6
    finally:
        config.write_text(before)
        service.systemctl("restart")


def test_wrong_credentials_keep_it_up_and_say_what_to_do(service: Service) -> None:
    """A wrong secret is no reason to stop: STATUS names the cure, and a restart with the right one works."""
    secret = service.guest.path("/etc/larkdrop/app_secret")
    try:
        secret.write_text("wrong")
        service.systemctl("restart")
        assert service.state == "active"
        assert "app_secret" in service.status
        assert "wrong" not in service.status
    finally:
        secret.write_text(SECRET)
    service.systemctl("restart")
    assert service.drop_answered()["image_key"]


def test_restart_with_work_in_flight(service: Service) -> None:
    """A restart loses nothing and sends nothing twice."""
    service.lark.faults.delay = 0.5
    sent = len(service.lark.uploads)
    pictures = [service.drop() for _ in range(60)]
    wait_until(lambda: len(service.lark.uploads) > sent + 5, what="some uploads")
    service.systemctl("restart")
    keys = keys_of(pictures)
    assert len(set(keys)) == len(service.lark.uploads) - sent == 60


def test_stop_finishes_fifty_in_flight_in_time(service: Service) -> None:
    """Systemctl stop ends within its time-out, with every answer that came written down."""
    service.drop_in("[Service]\nEnvironment=LARKDROP_UPLOAD__WORKERS=50\nTimeoutStopSec=2s\n")
    service.systemctl("restart")
    service.lark.faults.delay = 4.0
    calls, sent = service.lark.calls["upload"], len(service.lark.uploads)
    pictures = [service.drop() for _ in range(50)]
    wait_until(lambda: service.lark.calls["upload"] == calls + 50, what="50 uploads in flight")
    service.systemctl("stop")
    assert service.guest.show(service.unit, "Result") == "success"
    answered = [record for path in pictures if (record := sidecar_of(path))]
    assert len({record["image_key"] for record in answered}) == len(service.lark.uploads) - sent == 50


def test_kill_9_is_followed_by_a_restart(service: Service) -> None:
    """A killed process is replaced, and its work is done."""
    service.drop_in("[Service]\nRestartSec=100ms\n")
    service.lark.faults.delay = 1.0
    pid = service.pid
    pictures = [service.drop() for _ in range(20)]
    service.guest.run("kill", "-KILL", str(pid))
    service.restarted_from(pid)
    assert len(set(keys_of(pictures))) == 20


def test_a_stopped_process_is_restarted_by_the_watchdog(service: Service) -> None:
    """SIGSTOP: systemd misses the watchdog's food."""
    service.drop_in("[Service]\nWatchdogSec=2s\nRestartSec=100ms\nTimeoutAbortSec=1s\n")
    service.systemctl("restart")
    pid = service.pid
    service.guest.run("kill", "-STOP", str(pid))
    service.restarted_from(pid)
    assert service.drop_answered()["image_key"]


def test_a_long_wait_for_lark_is_no_hang(service: Service) -> None:
    """A call that takes much longer than the watchdog's time-out is let be."""
    service.drop_in("[Service]\nWatchdogSec=1s\n")
    service.systemctl("restart")
    pid = service.pid
    service.lark.faults.delay = 5.0
    assert service.drop_answered()["image_key"]
    assert service.pid == pid


def test_a_stuck_thread_is_restarted_by_the_watchdog(service: Service) -> None:
    """A file system that hangs under a worker: larkdrop says what is stuck, and the watchdog acts."""
    guest = service.guest
    guest.bash("mkdir -p /srv/behind /srv/inbox/fuse && chown larkdrop: /srv/behind && chmod 755 /srv/behind")
    service.systemctl("stop")
    guest.bash("systemd-run -q --unit=fuse bindfs -f --no-allow-other -o allow_other /srv/behind /srv/inbox/fuse")
    wait_until(lambda: "/srv/inbox/fuse" in guest.run("cat", "/proc/self/mounts"), what="the FUSE mount")
    try:
        service.drop_in(
            "[Service]\nWatchdogSec=2s\nRestartSec=100ms\nTimeoutAbortSec=1s\nEnvironment=LARKDROP_UPLOAD__RESCAN_SECONDS=1\n"
        )
        service.systemctl("start")
        pid = service.pid
        guest.run("systemctl", "kill", "--signal=STOP", "fuse")
        wait_until(lambda: service.pid != pid, 40, "the watchdog")
        stuck = guest.events(service.unit, "stuck")
        assert stuck
        assert stuck[-1]["parts"] == ["rescan"]
    finally:
        guest.run("systemctl", "kill", "--signal=CONT", "fuse", check=False)
        guest.run("systemctl", "stop", "fuse", check=False)
    service.plain()
    assert service.drop_answered()["image_key"]


def test_a_bad_config_ends_in_78_without_a_loop(service: Service) -> None:
    """No restart fixes a config: systemctl status shows what is wrong with it, and the journal at priority err."""
    config = service.guest.path("/etc/larkdrop/config.toml")
    good = config.read_text()
    try:
        config.write_text(good + "\n[uplaod]\nworkers = 3\n")
        service.guest.run("systemctl", "restart", "larkdrop", check=False)
        assert service.state == "failed"
        assert service.guest.show(service.unit, "ExecMainStatus") == "78"
        assert service.guest.show(service.unit, "NRestarts") == "0"
        shown = service.guest.run("systemctl", "status", "larkdrop", check=False)
        assert "uplaod: unknown key; did you mean upload?" in shown
        assert any("uplaod" in line for line in service.guest.log(service.unit, "-p", "err"))
    finally:
        config.write_text(good)


def test_the_journal_has_priorities(service: Service) -> None:
    """What needs no person is no error: uploads are info, a rejected picture a warning."""
    key = service.drop_answered()["image_key"]
    service.guest.path("/srv/inbox/no-picture.png").write_bytes(b"text")
    wait_until(lambda: sidecar_of(service.guest.path("/srv/inbox/no-picture.png")), what="the rejection")
    log = service.guest.log
    wait_until(lambda: any(str(key) in line for line in log(service.unit, "-p", "info")), what="the upload's line")
    assert not any(str(key) in line for line in log(service.unit, "-p", "warning"))
    wait_until(lambda: any("no-picture" in line for line in log(service.unit, "-p", "warning")), what="the rejection")
    assert not any("no-picture" in line for line in log(service.unit, "-p", "err"))


def test_tail_f_survives_logrotate(service: Service) -> None:
    """A reader that follows the result log by name misses nothing when it is rotated."""
    guest = service.guest
    guest.bash(
        "systemd-run -q --unit=tail -p StandardOutput=file:/tmp/seen tail -F -n +1 /var/log/larkdrop/results.jsonl"
    )
    seen = guest.path("/tmp/seen")
    wait_until(seen.exists, what="tail")
    keys = [str(service.drop_answered()["image_key"])]
    wait_until(lambda: keys[0] in seen.read_text(), what="the first line")
    guest.run("logrotate", "--force", "/etc/logrotate.d/larkdrop")
    assert guest.path("/var/log/larkdrop/results.jsonl.1").exists()
    keys += [str(service.drop_answered()["image_key"]) for _ in range(3)]
    wait_until(lambda: all(key in seen.read_text() for key in keys), what="every line after the rotation")
    guest.run("systemctl", "stop", "tail")
    assert "larkdrop larkdrop" in guest.run("stat", "-c", "%U %G", "/var/log/larkdrop/results.jsonl")


def test_the_secret_is_nowhere(service: Service) -> None:
    """Not in the environment, the journal, the state, the logs, nor in a file that the service's user can read."""
    service.drop_answered()
    guest = service.guest
    assert SECRET not in guest.path(f"/proc/{service.pid}/environ").read_bytes().decode()
    assert SECRET not in guest.run("journalctl", "-q")
    assert not guest.run("grep", "-rlF", SECRET, "/var/lib/larkdrop", "/var/log/larkdrop", "/etc/systemd", check=False)
    readable = guest.run("grep", "-rslF", SECRET, "/etc/larkdrop", "/run/credentials", check=False, user="larkdrop")
    assert set(readable.splitlines()) <= {f"/run/credentials/{service.unit}/app_secret"}
    assert "Permission denied" in guest.run("cat", "/etc/larkdrop/app_secret", check=False, user="larkdrop")


def test_the_secret_can_be_encrypted_on_disk(service: Service) -> None:
    """The documented encrypted form works, leaves no plain secret, and takes no other credential away."""
    guest = service.guest
    (encrypted,) = documented("Encrypt the secret")
    secret = guest.path("/etc/larkdrop/app_secret")
    fleet, fleet_url = "/etc/systemd/system/larkdrop.service.d/fleet.conf", "/etc/larkdrop/fleet_url"
    guest.path(fleet).write_text(f"[Service]\nLoadCredential=fleet_url:{fleet_url}\n")
    guest.path(fleet_url).write_text("")
    try:
        guest.bash(encrypted, stdin=SECRET)
        assert not secret.exists()
        assert SECRET not in guest.path("/etc/larkdrop/app_secret.cred").read_text()
        assert service.drop_answered()["image_key"]
        assert guest.path("/run/credentials/larkdrop.service/fleet_url").exists()
    finally:
        guest.path("/etc/systemd/system/larkdrop.service.d/secret.conf").unlink()
        guest.path(fleet).unlink()
        guest.path(fleet_url).unlink()
        secret.write_text(SECRET)
        secret.chmod(0o600)
        guest.run("systemctl", "daemon-reload")
        service.systemctl("restart")


def test_an_instance_beside_it(service: Service) -> None:
    """The documented second app: an inbox, a state folder and a result log of its own."""
    (block,) = documented("Several apps")
    service.guest.bash(f"EDITOR=/root/editor\n{block}", folder=CHECKOUT, stdin=SECRET)
    shop = Service(service.guest, service.lark, "larkdrop@shop.service", "/srv/shop")
    key = str(shop.drop_answered()["image_key"])
    assert service.drop_answered()["image_key"] != key
    log = service.guest.path("/var/log/larkdrop/shop.jsonl")
    wait_until(lambda: key in log.read_text(), what="the instance's result log")
    assert service.guest.path("/var/lib/larkdrop/shop/keys.sqlite3").exists()
    service.guest.run("systemctl", "disable", "--now", "larkdrop@shop")


CHECK = "/opt/larkdrop/bin/larkdrop check --service larkdrop"
CONFIG = "/etc/larkdrop/config.toml"


@pytest.fixture
def config(service: Service) -> Iterator[Path]:
    """The service's config, to be changed: it is as it was after the test."""
    file = service.guest.path(CONFIG)
    good = file.read_text()
    yield file
    file.write_text(good)


def test_check_looks_as_the_service_does(service: Service, config: Path) -> None:
    """What the unit does not open or its user can't enter is found, with the cure; nothing of the look stays."""
    guest = service.guest
    assert "✗" not in guest.bash(CHECK)
    service.drop_in("[Service]\nReadWritePaths=\n", "inbox.zz.conf")
    try:
        said = guest.bash(f"{CHECK} && exit 3 || test $? = 1")
        assert "✗ folder /srv/inbox: /srv/inbox is read-only" in said
        assert "ReadWritePaths=-/srv/inbox in a drop-in" in said
    finally:
        guest.path("/etc/systemd/system/larkdrop.service.d/inbox.zz.conf").unlink()
        guest.run("systemctl", "daemon-reload")
    guest.bash("install -d -o larkdrop /srv/done && install -d -m 700 /srv/closed /srv/closed/inbox")
    config.write_text(
        config.read_text().replace('"/srv/inbox"', '"/srv/inbox"\nafter_upload = "move"\nmove_to = "/srv/done"')
    )
    said = guest.bash(f"{CHECK} && exit 3 || test $? = 1")
    assert "✗ move_to /srv/done: /srv/done is read-only" in said
    assert "ReadWritePaths=-/srv/done" in said
    config.write_text(config.read_text().replace('"/srv/inbox"', '"/srv/closed/inbox"'))
    said = guest.bash(f"{CHECK} && exit 3 || test $? = 78")
    assert "can't be opened (Permission denied)" in said
    config.write_text(config.read_text().replace('"/srv/closed/inbox"', '"/srv/closed"'))
    service.drop_in("[Service]\nReadWritePaths=-/srv/closed\n")
    assert "✗ folder /srv/closed: can't be read and written" in guest.bash(f"{CHECK} && exit 3 || test $? = 1")
    config.write_text(config.read_text().replace('"/srv/closed"', '"/home/larkdrop/inbox"'))
    assert "ProtectHome=" in guest.bash(f"{CHECK} && exit 3 || test $? = 78")
    guest.bash("rm -r /srv/done /srv/closed")
    assert not guest.added("larkdrop-check*")
    assert "larkdrop-check" not in guest.run("systemctl", "list-units", "--all", "larkdrop-check*")
    assert not list(guest.path("/run").rglob("larkdrop-check*"))


def test_check_of_a_service_says_what_it_needs(service: Service) -> None:
    """Root, and a unit of larkdrop's; each is a sentence."""
    guest = service.guest
    guest.bash("id dave 2>/dev/null || useradd -m dave")
    assert "only root can check as larkdrop.service" in guest.bash(f"{CHECK} || true", user="dave")
    command = CHECK.replace("service larkdrop", "service")
    assert "nothing-of-the-kind.service can't be read" in guest.bash(f"{command} nothing-of-the-kind || true")
    assert "does not run `larkdrop run`" in guest.bash(f"{command} systemd-journald || true")
    assert "leave --config out" in guest.bash(f"{CHECK} --config {CONFIG} || true")
    service.drop_in("[Service]\nExecStart=\nExecStart=/opt/nowhere/larkdrop run --config /x\n")
    assert "✗ larkdrop: systemd could not start it" in guest.bash(f"{CHECK} || true")


def test_a_missing_credential(service: Service, config: Path) -> None:
    """Larkdrop says itself what is missing, once and without a loop; a secret in the config then counts."""
    guest = service.guest
    secret = guest.path("/etc/larkdrop/app_secret")
    secret.unlink()
    try:
        guest.run("systemctl", "restart", "larkdrop", check=False)
        assert service.state == "failed"
        assert guest.show(service.unit, "ExecMainStatus") == "78"
        assert guest.show(service.unit, "NRestarts") == "0"
        said = "\n".join(guest.log(service.unit, "-p", "err", "-n", "5"))
        assert "lark.app_secret: is missing" in said
        assert "/etc/larkdrop/app_secret" in said
        assert "credential" in guest.bash(f"{CHECK} && exit 3 || test $? = 78")
        config.write_text(config.read_text().replace("[lark]", f'[lark]\napp_secret = "{SECRET}"'))
        assert "✗" not in guest.bash(CHECK)
        service.systemctl("restart")
        assert service.drop_answered()["image_key"]
    finally:
        secret.write_text(SECRET)
        secret.chmod(0o600)


def test_a_move_to_that_is_not_opened(service: Service, config: Path) -> None:
    """The daemon names that folder, and the line that the unit lacks."""
    guest = service.guest
    guest.bash("install -d -o larkdrop /srv/done")
    config.write_text(
        config.read_text().replace('"/srv/inbox"', '"/srv/inbox"\nafter_upload = "move"\nmove_to = "/srv/done"')
    )
    service.systemctl("restart")
    place = service.drop()
    wait_until(lambda: guest.events(service.unit, "recording_failed"), what="the trouble")
    failed = guest.events(service.unit, "recording_failed")[-1]
    assert failed["place"] == "/srv/done"
    assert "ReadWritePaths=-/srv/done" in failed["hint"]
    wait_until(lambda: "can't move or delete picture /srv/done" in service.status, what="STATUS to say so")
    service.drop_in("[Service]\nReadWritePaths=-/srv/done\n")
    service.systemctl("restart")
    wait_until(lambda: not place.exists(), what="the move")
    assert sidecar_of(guest.path("/srv/done") / place.name)


def test_a_state_folder_that_is_removed(service: Service) -> None:
    """It is noticed, said, and systemd begins anew with a fresh one."""
    service.drop_in("[Service]\nRestartSec=100ms\n")
    service.systemctl("restart")
    pid = service.pid
    service.guest.bash("rm -r /var/lib/larkdrop")
    service.restarted_from(pid)
    assert service.guest.events(service.unit, "state_gone")
    assert service.drop_answered()["image_key"]
    assert service.guest.path("/var/lib/larkdrop/keys.sqlite3").exists()


def test_proxies_have_a_file(service: Service) -> None:
    """The lines of /etc/larkdrop/env count, for the service and for check; a proxy is named without its password."""
    guest = service.guest
    file = guest.path("/etc/larkdrop/env")
    file.write_text("ALL_PROXY=http://me:word@127.0.0.1:1\n")
    file.chmod(0o600)
    try:
        service.systemctl("restart")
        service.drop()
        wait_until(
            lambda: any("the proxy 127.0.0.1:1 refuses" in line for line in guest.log(service.unit)), what="a line"
        )
        assert "the proxy 127.0.0.1:1 refuses connections" in guest.bash(f"{CHECK} && exit 3 || test $? = 1")
        assert "me:word" not in guest.run("journalctl", "-q")
    finally:
        file.unlink()
        service.systemctl("restart")


def test_a_unit_names_its_documentation(service: Service) -> None:
    """The README that the install put on this machine, and the documents that it points to."""
    url = service.guest.show(service.unit, "Documentation")
    assert url.startswith("file:///")
    readme = service.guest.path(url.removeprefix("file://"))
    assert "# larkdrop" in readme.read_text()
    assert "## Upgrade" in (readme.parent / "docs/service.md").read_text()


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_analyze(service: Service, unit: str) -> None:
    """No unit has a fault that systemd knows of, and each is exposed by 1.5 at most."""
    file = re.sub("@.*[.]", "@.", unit)
    assert not service.guest.run("systemd-analyze", "verify", f"/etc/systemd/system/{file}")
    service.guest.run("systemctl", "start", unit, check=False)
    said = service.guest.run("systemd-analyze", "security", "--no-pager", unit)
    exposure = re.search(r"exposure level for .*: ([0-9.]+)", said)
    assert exposure
    assert float(exposure[1]) <= 1.5, said
    service.guest.run("systemctl", "stop", "larkdrop@shop.service")


def test_the_unit_lets_it_keep_to_one_cpu(service: Service) -> None:
    """Its filter of system calls leaves that one."""
    status = service.guest.path(f"/proc/{service.pid}/status").read_text()
    assert re.search(r"^Cpus_allowed_list:\t\d+$", status, re.MULTILINE), status


def test_both_units_differ_in_their_names_only(service: Service) -> None:
    """What is set for the service is set for the instances."""
    folder = Path(__file__).parents[2] / "systemd"
    one, many = ((folder / name).read_text() for name in ("larkdrop.service", "larkdrop@.service"))
    changes = {
        "Lark/Feishu\n": "Lark/Feishu (%i)\n",
        "/config.toml": "/%i.toml",
        "StateDirectory=larkdrop": "StateDirectory=larkdrop/%i",
        "/app_secret": "/%i.secret",
    }
    for old, new in changes.items():
        one = one.replace(old, new)
    assert one == many


def test_a_power_cut_and_a_boot(service: Service) -> None:
    """The service comes back with the machine, and what was dropped meanwhile is uploaded."""
    before = service.drop_answered()["image_key"]
    place = service.drop()
    guest = service.guest
    guest.power_off()
    guest.boot()
    wait_until(lambda: service.state == "active", what="the service after the boot")
    place = service.guest.path("/srv/inbox") / place.name
    if not place.exists():  # written, but never synced
        place = service.drop()
    assert wait_for_sidecar(place)["image_key"] != before


def test_upgrade_then_uninstall(service: Service) -> None:
    """As documented: an upgrade uploads nothing again, and an uninstall leaves the pictures alone."""
    (upgrade,), (uninstall,) = documented("Upgrade"), documented("Uninstall")
    place = service.drop()
    record = wait_for_sidecar(place)
    calls = service.lark.calls["upload"]
    service.guest.bash(upgrade, folder=CHECKOUT)
    assert service.drop_answered()["image_key"]
    assert service.lark.calls["upload"] == calls + 1
    service.guest.run("systemctl", "enable", "--now", "larkdrop@shop")
    service.guest.bash(uninstall)
    assert "larkdrop" not in service.guest.run("systemctl", "list-units", "--all", "--plain", "larkdrop*")
    assert sidecar_of(place) == record
    left = service.guest.added("*larkdrop*")
    assert [path for path in left if not path.startswith(("/root/", "/srv/"))] == []
    assert "no such user" in service.guest.run("id", "larkdrop", check=False)
    assert not service.guest.run("getent", "group", "larkdrop", check=False)
