import torch

from gradwire.schemes import memory

LARGE = memory.LARGE // 4


def test_memory_that_nobody_holds_any_more_is_lent_again_and_never_twice():
    first = memory.empty(LARGE, torch.float32).fill_(1)
    second = memory.empty(LARGE, torch.float32).fill_(2)
    assert first.data_ptr() != second.data_ptr()
    view, place = first[5:].view(-1, 1), first.data_ptr()
    del first
    third = memory.empty(LARGE, torch.float32).fill_(3)
    assert third.data_ptr() not in (place, second.data_ptr())  # a view holds it still
    assert torch.all(view == 1)
    del view
    again = memory.empty(LARGE, torch.float32)
    assert again.data_ptr() == place
    del again
    assert memory.empty(LARGE // 2, torch.float64).data_ptr() == place  # by bytes, whatever they are
    assert torch.all(second == 2)
    assert torch.all(third == 3)


def test_one_spare_is_kept_and_one_of_another_size_goes():
    both = [memory.empty(LARGE, torch.float32) for _ in range(2)]
    both.clear()
    assert len(memory._spare) == 1
    assert len(memory.empty(2 * LARGE, torch.float32)) == 2 * LARGE


def test_small_memory_is_the_c_librarys():
    before = list(map(id, memory._spare))
    assert memory.empty(10, torch.float64).shape == (10,)
    assert list(map(id, memory._spare)) == before
