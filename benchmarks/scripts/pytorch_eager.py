"""The reference protocol as a plain PyTorch script: `pytorch_eager.py mlp|cnn DATA_DIR SEED`.

Eager, with fused Adam; batches are rows of tensors, which is faster than a DataLoader.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.scripts.plain_keras import read

EPOCHS, BATCH = 5, 64


def main(model_name: str, folder: Path, seed: int) -> None:
    """Load, train, evaluate, save."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    shape = (-1, 1, 28, 28)

    def images(name: str) -> torch.Tensor:
        return torch.tensor(read(folder, name, 16)).reshape(shape).float() / 255

    def labels(name: str) -> torch.Tensor:
        return torch.tensor(read(folder, name, 8)).long()

    x_train, y_train = images("train-images-idx3-ubyte"), labels("train-labels-idx1-ubyte")
    x_test, y_test = images("t10k-images-idx3-ubyte"), labels("t10k-labels-idx1-ubyte")
    if model_name == "cnn":
        model = nn.Sequential(
            *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 10)),
        )
    else:
        model = nn.Sequential(
            *(nn.Flatten(), nn.Linear(784, 256), nn.ReLU()),
            *(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)),
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, eps=1e-7, fused=True)
    loss_of = nn.CrossEntropyLoss()

    def evaluate() -> tuple[float, float]:
        model.eval()
        losses = right = 0.0
        with torch.no_grad():
            for start in range(0, len(x_test), 256):
                x, y = x_test[start : start + 256], y_test[start : start + 256]
                outputs = model(x)
                losses += float(loss_of(outputs, y)) * len(y)
                right += float((outputs.argmax(1) == y).sum())
        return losses / len(y_test), right / len(y_test)

    epochs: list[float] = []
    began = time.perf_counter()
    for epoch in range(EPOCHS):
        epoch_began = time.perf_counter()
        model.train()
        order = torch.randperm(len(x_train))
        total = torch.zeros(())
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            optimizer.zero_grad()
            loss = loss_of(model(x_train[rows]), y_train[rows])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        loss_of_test, accuracy = evaluate()
        epochs.append(time.perf_counter() - epoch_began)
        print(epoch, float(total) / len(order), loss_of_test, accuracy)
    fit_seconds = time.perf_counter() - began
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "model.pt")
    print(
        f'RESULT {{"epoch_seconds": {epochs}, "fit_seconds": {fit_seconds}, '
        f'"test_accuracy": {accuracy}, "test_loss": {loss_of_test}}}'
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
