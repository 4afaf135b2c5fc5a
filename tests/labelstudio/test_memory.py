from __future__ import annotations

from maskloop.labelstudio.memory import LocalMemory


def test_forgets_after_its_time() -> None:
    now = [100.0]
    memory = LocalMemory(clock=lambda: now[0])
    memory.put("k", {"a": 1}, ttl=5)
    assert memory.get("k") == {"a": 1}
    now[0] = 105.0
    assert memory.get("k") is None
    assert memory.get("other") is None


def test_the_oldest_goes_first() -> None:
    memory = LocalMemory(limit=2)
    for key in "abca":
        memory.put(key, {"key": key}, ttl=60)
    assert memory.get("b") is None
    assert memory.get("c") == {"key": "c"}
    assert memory.get("a") == {"key": "a"}


def test_the_last_value_counts() -> None:
    memory = LocalMemory()
    memory.put("k", {"n": 1}, ttl=60)
    memory.put("k", {"n": 2}, ttl=60)
    assert memory.get("k") == {"n": 2}
