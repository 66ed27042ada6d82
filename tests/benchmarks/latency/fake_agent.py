"""What the Android agent's process does with a job, without a phone: hashes, checks, timings."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks.latency.fake_adbd import Disconnect

APP = "dev.edgefiqa.demo"
_INSTRUMENT = re.compile(
    rf"am instrument -w -r -e job (\S+) {APP}\.(\w+)/{APP}\.AgentInstrumentation"
)
INFO = {
    "manufacturer": "Made",
    "model": "Up",
    "soc": "SoC 1",
    "system": "Android 16",
    "api_level": 36,
    "abis": ["arm64-v8a"],
    "cores": 8,
    "page_size_bytes": 16384,
    "memory_bytes": 8_000_000_000,
}


class FakePhone:
    """The shell of a phone with the demo app installed.

    Args:
        runtimes: The flavours installed.
        faults: sha256 of a model → what goes wrong with it.
    """

    def __init__(self, *runtimes: str, faults: dict[str, str] | None = None) -> None:
        self.runtimes, self.faults = runtimes, faults or {}
        self.jobs: list[dict[str, Any]] = []
        self.thermal = "none"
        self._draw = np.random.default_rng(0)

    def __call__(self, script: str, root: Path) -> tuple[str, int]:
        words = script.split()
        if script.startswith("pm path"):
            name = words[2].removeprefix(f"{APP}.")
            return (f"package:/data/app/{words[2]}/base.apk\n" if name in self.runtimes else ""), 0
        if script.startswith("mkdir -p"):
            (root / words[2].lstrip("/")).mkdir(parents=True)
            return "", 0
        if script.startswith("rm "):
            path = root / words[2].lstrip("/")
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            return "", 0
        asked = _INSTRUMENT.fullmatch(script)
        if asked is None:
            return f"sh: {words[0]}: not found\n", 127
        return self._instrument(root / asked[1].lstrip("/"), asked[2], root), 0

    def _instrument(self, file: Path, runtime: str, root: Path) -> str:
        report = self._carry_out(file, runtime)
        fault = self.faults.get(report["model"]["sha256"], "")
        if fault == "disconnect":
            raise Disconnect
        if fault == "crash":
            short, long = "Process crashed.", "java.lang.UnsatisfiedLinkError: libnot.so"
            lines = f"INSTRUMENTATION_RESULT: shortMsg={short}\n"
            return f"{lines}INSTRUMENTATION_RESULT: longMsg={long}\nINSTRUMENTATION_CODE: 0\n"
        if fault == "unwritten":
            return "INSTRUMENTATION_RESULT: fault=the disk is full\nINSTRUMENTATION_CODE: 0\n"
        name = f"/sdcard/Android/data/{APP}.{runtime}/files/reports/{file.stem}.report.json"
        text = json.dumps(_with_fault(report, fault))
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text[: len(text) // 2] if fault == "truncated" else text)
        passed = str(report["passed"]).lower()
        lines = f"INSTRUMENTATION_RESULT: passed={passed}\nINSTRUMENTATION_RESULT: report={name}\n"
        return f"{lines}INSTRUMENTATION_CODE: -1\n"

    def _carry_out(self, file: Path, runtime: str) -> dict[str, Any]:
        content = file.read_bytes()
        job = json.loads(content)
        self.jobs.append(job)
        model = (file.parent / job["model"]["file"]).read_bytes()
        count = max(job["rules"]["minimum_count"], 5)
        samples = [int(sample) for sample in self._draw.gamma(100, 2e4, count)]
        state = {
            "uptime_ns": 5,
            "thermal_status": self.thermal,
            "thermal_headroom": None,
            "battery_percent": 80,
            "battery_celsius": 31.5,
            "charging": False,
            "power_save": False,
            "available_memory_bytes": None,
        }
        goldens, photos = _goldens(job, file.parent)
        return {
            "schema_version": 1,
            "job_id": job["job_id"],
            "job_sha256": hashlib.sha256(content).hexdigest(),
            "passed": True,
            "agent": {"name": f"{APP}.{runtime}", "version": "1.0"},
            "runtime": {"name": runtime, "version": "9.9"},
            "device": INFO,
            "state_before": state,
            "state_after": state,
            "model": {
                "file": job["model"]["file"],
                "sha256": hashlib.sha256(model).hexdigest(),
                "size_bytes": len(model),
            },
            "precision": job["precision"],
            "threads": job["threads"],
            "timed_input": "grey",
            "load_ns": 7_000_000,
            "first_ns": 9_000_000,
            "warm_up_ns": [1_000_000] * job["rules"]["warm_up_count"],
            "samples_ns": samples,
            "rules_met": True,
            "statistics": _statistics(samples),
            "end_to_end": [
                {"photo": photo, "decode_ns": 3_000_000, "preprocess_ns": 2_000_000, "score_ns": 4}
                for photo in photos * job["end_to_end_count"]
            ],
            "goldens": goldens,
            "peak_rss_bytes": 90_000_000,
            "errors": [],
        }


def _statistics(samples: list[int]) -> dict[str, float]:
    low, p50, high, p90, p99 = map(float, np.percentile(samples, [25, 50, 75, 90, 99]))
    ends = {"min_ns": float(min(samples)), "max_ns": float(max(samples))}
    middle = {"mean_ns": float(np.mean(samples)), "p50_ns": p50, "p90_ns": p90, "p99_ns": p99}
    return {"count": len(samples), "iqr_ns": high - low, **ends, **middle}


def _goldens(job: dict[str, Any], folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    if job["goldens"] is None:
        return None, []
    content = (folder / job["goldens"]["directory"] / "goldens.json").read_bytes()
    cases = json.loads(content)["cases"]
    checks = [
        {
            "case": case["name"],
            "level": "tensor_to_score",
            "passed": True,
            "difference": 0.0,
            "allowed": 1e-4,
            "fault": "",
        }
        for case in cases
    ]
    digest = hashlib.sha256(content).hexdigest()
    return {"sha256": digest, "passed": True, "checks": checks}, [c["photo"] for c in cases]


def _with_fault(report: dict[str, Any], fault: str) -> dict[str, Any]:
    """Change a report as an agent does that meets this fault."""
    if fault == "golden":
        checks = [
            check | {"passed": False, "difference": 0.25} for check in report["goldens"]["checks"]
        ]
        goldens = report["goldens"] | {"passed": False, "checks": checks}
        return report | {"passed": False, "goldens": goldens}
    if fault == "other model":
        return report | {"model": report["model"] | {"sha256": "0" * 64}}
    if fault == "load":
        errors = [{"stage": "load", "kind": "ScorerException", "what": "no such operator"}]
        empty: dict[str, Any] = {"samples_ns": [], "statistics": None, "rules_met": False}
        return report | empty | {"passed": False, "errors": errors}
    if fault == "slow":
        return report | {"passed": False, "rules_met": False}
    return report
