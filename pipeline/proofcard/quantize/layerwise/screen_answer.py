"""What the screen is asked about a batch, and what of the batch runs for the answer."""

from dataclasses import dataclass, field

import torch


@dataclass
class Suspects:
    """What may exceed a recorded maximum: experts with the whole batch, with some rows, or some neurons.

    Rows and neurons are filled up with others, to numbers whose products have the bits of the batch's own.
    `share` is how much of all products that is.
    """

    whole: set[str] = field(default_factory=set)
    rows: dict[str, torch.Tensor] = field(default_factory=dict)
    neurons: dict[str, torch.Tensor] = field(default_factory=dict)
    share: float = 0.0


@dataclass
class Question:
    """Asked of one batch: the answer is ready once `done` is, and until then `rows` and `largest` are needed.

    `counts` int32 [2, experts], on the host: the rows that may exceed an expert's maximum, more than `picked`
    has where they are too many to tell; and the neurons that may. `picked` int32 [experts, most] has such
    rows, and `neurons` int64 [experts, all] all neurons, such first. `some_rows` and `some_columns` are the
    numbers of rows, and of gates and ups together, that can run alone.
    """

    rows: torch.Tensor
    experts: tuple[str, ...]
    largest: torch.Tensor
    some_rows: tuple[int, ...]
    some_columns: tuple[int, ...]
    counts: torch.Tensor
    picked: torch.Tensor
    neurons: torch.Tensor
    done: torch.cuda.Event | None

    def suspects(self) -> Suspects:
        """What of the batch has to run. Waits for the device."""
        if self.done is not None:
            self.done.synchronize()
        found = Suspects()
        for place, (name, rows, neurons) in enumerate(zip(self.experts, *self.counts.tolist(), strict=True)):
            if not rows:
                continue
            few = next((size for size in self.some_rows if size >= rows), None)
            narrow = next((size for size in self.some_columns if size >= 2 * neurons), None)
            if few is not None:
                found.rows[name] = self.picked[place, :few]
                found.share += few / len(self.rows)
            elif narrow is not None:
                found.neurons[name] = self.neurons[place, : narrow // 2]
                found.share += narrow / 2 / self.neurons.shape[1]
            else:
                found.whole.add(name)
                found.share += 1
        found.share /= len(self.experts)
        return found
