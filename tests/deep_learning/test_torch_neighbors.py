"""knn of tensors: against distances formed one by one, in float64."""

import gc

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lle_gpu.torch import knn  # noqa: E402
from lle_gpu.torch import neighbors as module  # noqa: E402


def brute(x, bank, k, exclude_self):
    x, bank = x.double().numpy(), bank.double().numpy()
    distance = ((x[:, None] - bank[None]) ** 2).sum(axis=2)
    if exclude_self:
        np.fill_diagonal(distance, np.inf)
    rows = np.broadcast_to(np.arange(len(bank)), distance.shape)
    return torch.from_numpy(np.lexsort((rows, distance), axis=1)[:, :k].copy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("d", [2, 40])
def test_against_all_distances(d, dtype):
    g = torch.Generator().manual_seed(d)
    bank = torch.randn(200, d, generator=g).to(dtype)
    x = torch.randn(30, d, generator=g).to(dtype)
    assert torch.equal(knn(x, bank, k=7), brute(x, bank, 7, False))
    assert torch.equal(knn(bank, k=7), brute(bank, bank, 7, True))
    assert torch.equal(knn(bank, k=7, exclude_self=False), brute(bank, bank, 7, False))
    assert torch.equal(knn(bank, bank, k=7, exclude_self=True), brute(bank, bank, 7, True))


def test_ties_and_duplicates_by_row():
    bank = torch.randint(0, 3, (120, 2)).float()
    assert torch.equal(knn(bank, k=9), brute(bank, bank, 9, True))


def test_what_is_kept_of_a_bank_is_dropped_with_it_and_when_it_changes():
    bank, x = torch.randn(100, 20), torch.randn(5, 20)
    before = len(module._searches)
    first = knn(x, bank, k=3)
    assert len(module._searches) == before + 1
    assert torch.equal(knn(x, bank, k=3), first)
    with torch.no_grad():
        bank[first[0, 0]] += 100.0
    assert torch.equal(knn(x, bank, k=3), brute(x, bank, 3, False))
    del bank
    gc.collect()
    assert len(module._searches) == before


@pytest.mark.parametrize("d", [3, 20])
def test_a_bank_written_behind_its_version(d):
    bank, x = torch.nn.Parameter(torch.randn(500, d)), torch.randn(20, d)
    knn(x, bank, k=4)
    for write in (
        lambda new: bank.data.copy_(new),
        lambda new: setattr(bank, "data", new.clone()),
        lambda new: torch.nn.utils.vector_to_parameters(new.reshape(-1).clone(), [bank]),
        lambda new: bank.data[:3].copy_(new[:3]),  # a few rows
        lambda new: bank.data.copy_(bank.data.flip(0).clone()),  # the same rows elsewhere
    ):
        write(torch.randn(500, d))
        assert torch.equal(knn(x, bank, k=4), brute(x, bank.detach(), 4, False))


def test_in_inference_mode():
    with torch.inference_mode():
        bank = torch.randn(60, 5)
        assert torch.equal(knn(bank, k=3), brute(bank, bank, 3, True))


def test_the_transpose_is_not_the_bank():
    bank = torch.randn(6, 6)
    with pytest.raises(ValueError, match="needs a bank that is x"):
        knn(bank.T, bank, k=2, exclude_self=True)


def test_the_bank_is_prepared_once(monkeypatch):
    made = []
    real = module.NeighborSearch
    monkeypatch.setattr(
        module, "NeighborSearch", lambda *args, **options: made.append(1) or real(*args, **options)
    )
    bank = torch.randn(100, 20, requires_grad=True)
    for _ in range(3):
        knn(torch.randn(5, 20), bank, k=3)
    assert len(made) == 1


def test_no_gradient_and_small_cases():
    x = torch.randn(10, 3, requires_grad=True)
    idx = knn(x, k=9)
    assert not idx.requires_grad
    assert idx.dtype == torch.int64
    assert knn(x[:0], x, k=4).shape == (0, 4)
    assert knn(x[:0], k=4).shape == (0, 4)
    assert knn(x[:1], x, k=10).shape == (1, 10)
    assert torch.equal(knn(x[:1], k=1, exclude_self=False), torch.zeros(1, 1, dtype=torch.int64))


def test_noncontiguous_and_sliced():
    bank = torch.randn(50, 8)
    x = torch.randn(8, 6).T[:, :8]
    assert torch.equal(knn(x, bank.T.contiguous().T, k=3), brute(x, bank, 3, False))
    assert torch.equal(knn(bank[::2, ::2], k=3), brute(bank[::2, ::2], bank[::2, ::2], 3, True))


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ((torch.zeros(5, 2),), {"k": 5}, ValueError, r"k=5 must be from 1 to 4.*itself left out"),
        ((torch.zeros(5, 2), torch.zeros(3, 2)), {"k": 4}, ValueError, "k=4 must be from 1 to 3"),
        ((torch.zeros(5, 2),), {"k": 0}, ValueError, "k=0"),
        ((torch.zeros(5, 2),), {"k": 3.0}, TypeError, r"k=3\.0 must be an integer"),
        ((torch.zeros(5, 2),), {"k": True}, TypeError, "k=True must be an integer"),
        ((torch.zeros(5, 2), torch.zeros(5, 3)), {"k": 1}, ValueError, "x has 2 features and bank"),
        ((torch.zeros(5, 2), torch.zeros(5, 2).double()), {"k": 1}, TypeError, "float64"),
        ((torch.zeros(5, 2, dtype=torch.int32),), {"k": 1}, TypeError, "int32"),
        ((torch.full((5, 2), float("nan")),), {"k": 1}, ValueError, "NaN or infinity"),
        (
            (torch.zeros(5, 2), torch.full((5, 2), float("inf"))),
            {"k": 1},
            ValueError,
            "bank has NaN or infinity",
        ),
        ((torch.zeros(5, 0),), {"k": 1}, ValueError, "no features"),
        (
            (torch.zeros(5, 2), torch.zeros(4, 2)),
            {"k": 1, "exclude_self": True},
            ValueError,
            r"this one has shape \(4, 2\) and x \(5, 2\)",
        ),
        (
            (torch.zeros(5, 2), torch.ones(5, 2)),
            {"k": 1, "exclude_self": True},
            ValueError,
            "needs a bank that is x",
        ),
    ],
)
def test_bad_input(args, options, error, message):
    with pytest.raises(error, match=message):
        knn(*args, **options)


@pytest.mark.parametrize("counted", [True, False])
def test_a_row_that_changes_by_less_than_the_others_round(counted):
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(300, 3, generator=generator)
    bank[:, 0] += 1e6
    for step in range(600):
        row = step % 300
        (bank if counted else bank.data)[row, 1:] = 0.05 * torch.randn(2, generator=generator)
        assert int(knn(bank[row : row + 1].clone(), bank, k=1)) == row


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_number_of_a_bank_counts(dtype):
    bank = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = module._fingerprint(bank)
    assert torch.equal(before, module._fingerprint(bank.clone().T.contiguous().T))
    for row, column in ((0, 0), (17, 3), (39, 4)):
        changed = bank.clone()
        changed[row, column] = torch.nextafter(changed[row, column].float(), torch.tensor(9.0)).to(
            dtype
        )
        if changed[row, column] == bank[row, column]:  # half precision: the next number
            changed[row, column] *= 1.01
        assert torch.nonzero(module._fingerprint(changed) != before).tolist() == [[row]]


def test_a_search_is_kept_while_the_bank_is():
    bank = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    knn(bank[:3] + 0.1, bank, k=2)
    search = module._searches[bank][2]
    knn(bank[:3] - 0.1, bank, k=2)
    assert module._searches[bank][2] is search
    bank.add_(1)
    knn(bank[:3], bank, k=2)
    assert module._searches[bank][2] is not search
