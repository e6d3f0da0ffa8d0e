"""Time other inference engines on one network with zeros, beside onnxruntime and the sparse runtime; one thread.

``python benchmarks/other_engines.py export FOLDER`` writes the networks (with the package). Then, where the engines are
installed (``pip install ncnn pnnx MNN apache-tvm iree-base-compiler iree-base-runtime onnx onnxruntime numpy``):
``PYTHONPATH=src python benchmarks/other_engines.py time FOLDER --out FILE``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["TVM_NUM_THREADS"] = "1"  # before any engine is imported

import numpy as np

SIZE, SPARSITY, BLOCK = 96, 0.9, 4
NETWORKS = ("dense", "zeros")
PACKAGES = ("onnxruntime", "ncnn", "pnnx", "MNN", "apache-tvm", "iree-base-compiler", "iree-base-runtime")
Call = Callable[[np.ndarray], Any]


def write_networks(folder: Path) -> None:
    """Write ResNet-18 for small images, dense and with zeros, as ONNX and for the sparse runtime."""
    import torch

    import sparse_engine
    from supertickets.deploy import export
    from supertickets.deploy.exporter import write_plain_onnx

    folder.mkdir(parents=True, exist_ok=True)
    settings = {"image_size": (SIZE, SIZE), "num_classes": 40}
    images = torch.randn(1, 3, SIZE, SIZE)
    np.save(folder / "images.npy", images.numpy())
    for name, sparsity in zip(NETWORKS, (0.0, SPARSITY), strict=True):
        ticket = sparse_engine.make_ticket(sparse_engine.Case(name, "resnet18", settings, sparsity, BLOCK))
        write_plain_onnx(ticket.module.folded(), images, folder / f"{name}.onnx")
        export(ticket, folder / f"{name}.sparse", "sparse")


def prepare_onnxruntime(path: Path) -> Call:
    """Return a call of onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]


def prepare_sparse(path: Path) -> Call:
    """Return a call of the sparse runtime."""
    from supertickets.runtime import load

    return load(path.with_suffix(".sparse"), threads=1)


def prepare_ncnn(path: Path) -> Call:
    """Return a call of ncnn; pnnx converts the file."""
    import ncnn

    tool = Path(sys.executable).with_name("pnnx")
    words = [str(tool), path.name, f"inputshape=[1,3,{SIZE},{SIZE}]", "fp16=0"]
    subprocess.run(words, cwd=path.parent, check=True, capture_output=True)
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(str(path.with_suffix(".ncnn.param")))
    net.load_model(str(path.with_suffix(".ncnn.bin")))

    def run(images: np.ndarray) -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(images[0]))
        return np.array(extractor.extract("out0")[1])

    return run


def prepare_mnn(path: Path, *, sparse: bool = False) -> Call:
    """Return a call of MNN, which may be told to look for zeros."""
    import _tools  # of MNN; its script mnnconvert would install a package of its own accord, and send statistics
    import MNN

    target = path.with_suffix(".sparse.mnn" if sparse else ".mnn")
    words = ["-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(target), "--bizCode", "x"]
    _tools.mnnconvert(["mnnconvert", *words, *(["--detectSparseSpeedUp", "1"] if sparse else [])])
    interpreter = MNN.Interpreter(str(target))
    session = interpreter.createSession({"numThread": 1, "backend": "CPU", "precision": "high"})
    images_in, scores = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)

    def run(images: np.ndarray) -> Any:
        shape, kind = tuple(images.shape), MNN.Halide_Type_Float
        images_in.copyFrom(MNN.Tensor(shape, kind, images, MNN.Tensor_DimensionType_Caffe))
        interpreter.runSession(session)
        host = MNN.Tensor(
            scores.getShape(), kind, np.zeros(scores.getShape(), np.float32), MNN.Tensor_DimensionType_Caffe
        )
        scores.copyToHostTensor(host)
        return np.array(host.getData()).reshape(scores.getShape())

    return run


def prepare_tvm(path: Path) -> Call:
    """Return a call of TVM without tuning."""
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    module = from_onnx(onnx.load(str(path)), keep_params_in_input=False)
    processor = tvm.target.codegen.llvm_get_system_cpu()
    target = tvm.target.Target({"kind": "llvm", "mcpu": processor, "num-cores": 1})
    with target:
        module = relax.get_pipeline("zero")(module)
    machine = relax.VirtualMachine(tvm.compile(module, target=target), tvm.cpu())
    return lambda images: machine["main"](tvm.runtime.tensor(images)).numpy()


def prepare_iree(path: Path) -> Call:
    """Return a call of IREE for this processor."""
    import iree.compiler.tools as tools
    import iree.runtime as runtime

    tool = str(Path(sys.executable).with_name("iree-import-onnx"))
    source = path.with_suffix(".mlir")
    subprocess.run([tool, str(path), "-o", str(source), "--opset-version", "20"], check=True, capture_output=True)
    options = ["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3"]
    binary = tools.compile_file(str(source), input_type="onnx", target_backends=["llvm-cpu"], extra_args=options)
    config = runtime.Config("local-sync")
    module = runtime.load_vm_module(runtime.VmModule.copy_buffer(config.vm_instance, binary), config)
    function = next(
        getattr(module, name) for name in module.vm_module.function_names if name.isidentifier() and name[0] != "_"
    )
    return lambda images: np.asarray(function(images))


ENGINES: dict[str, Callable[[Path], Call]] = {
    "onnxruntime": prepare_onnxruntime,
    "sparse runtime": prepare_sparse,
    "ncnn": prepare_ncnn,
    "MNN": prepare_mnn,
    "MNN, sparse": lambda path: prepare_mnn(path, sparse=True),
    "TVM, not tuned": prepare_tvm,
    "IREE": prepare_iree,
}


def time_engines(folder: Path, turns: int, chosen: list[str]) -> dict[str, Any]:
    """Return the median milliseconds of processor time per engine and network, and why engines failed."""
    images = np.load(folder / "images.npy")
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for engine in chosen or ENGINES:
        rows[engine] = {}
        for network in NETWORKS:
            path = folder / f"{network}.onnx"
            try:
                call = ENGINES[engine](path)
                wanted = prepare_onnxruntime(path)(images)
                error = float(np.abs(np.ravel(call(images)) - np.ravel(wanted)).max() / np.abs(wanted).max())
                rows[engine][f"{network}_error"] = error
            except Exception as error:  # engines raise whatever they like
                output = getattr(error, "stderr", None) or str(error).encode()
                rows[engine][f"{network}_failed"] = f"{type(error).__name__}: {output.decode()[-300:]}"
                continue
            calls[engine, network] = lambda call=call: call(images)
        print(engine, rows[engine], file=sys.stderr, flush=True)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(turns):
        for key, call in calls.items():
            call()
            begin = time.process_time_ns()
            call()
            times[key].append(1e-6 * (time.process_time_ns() - begin))
    for (engine, network), values in times.items():
        rows[engine][f"{network}_ms"] = round(statistics.median(values), 3)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("export", "time"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--engines", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.what == "export":
        write_networks(options.folder)
        return
    rows = time_engines(options.folder, options.turns, options.engines)
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    network = f"ResNet-18, {SIZE} px, {SPARSITY:.0%} zeros in blocks of {BLOCK}"
    about = {"network": network, "device": model.partition(": ")[2], "threads": 1, "turns": options.turns}
    print(text := json.dumps({**about, "versions": versions, "engines": rows}, indent=1))
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
