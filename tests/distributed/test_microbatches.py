"""Parts of a batch: what a machine computes fastest, and always the same in reproducible mode."""

import os
import types

import jax
import pytest

from jaxdrl.distributed import microbatches

CPU, GPU = types.SimpleNamespace(platform="cpu"), types.SimpleNamespace(platform="gpu")


def have(cores, monkeypatch):
    """This process may use so many."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)


@pytest.mark.parametrize(
    ("num_samples", "cores", "reproducible", "expected"),
    [
        (255, 8, False, 1),
        (1024, 8, False, 4),  # 8 devices: a core each
        (1024, 2, False, 4),
        (1000, 8, False, 2),  # 3 does not divide it
        (1021, 8, False, 1),
        (8192, 16, False, 1),  # two cores a device
        (65536, 16, False, 8),
        (8192, 8, True, 8),
        (8192, 16, True, 8),
    ],
)
def test_on_a_cpu_parts_fit_the_cache(monkeypatch, num_samples, cores, reproducible, expected):
    assert len(jax.devices("cpu")) == 8
    have(cores, monkeypatch)
    assert microbatches.num_microbatches(num_samples, CPU, reproducible=reproducible) == expected


@pytest.mark.parametrize(
    ("num_rows", "row_length", "expected"),
    [(512, 8, 16), (128, 32, 8), (32, 128, 2), (8, 100, 1), (24, 100, 1)],
)
def test_parts_of_sequences_keep_enough_rows(monkeypatch, num_rows, row_length, expected):
    have(8, monkeypatch)
    num = microbatches.num_microbatches(num_rows, CPU, reproducible=False, row_length=row_length)
    assert num == expected
    assert num_rows // num >= min(num_rows, 16)


@pytest.mark.parametrize("reproducible", [False, True])
def test_elsewhere_there_is_one(reproducible):
    assert microbatches.num_microbatches(2**20, GPU, reproducible=reproducible) == 1


def test_cores_are_those_of_this_process():
    assert 1 <= microbatches.num_cores() <= 4096
