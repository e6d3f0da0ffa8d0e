"""Names what is in pictures with an exported ticket and nothing but onnxruntime, Pillow and numpy.

Use: python onnx_predict.py model.onnx picture.jpg ...
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
how, classes = json.loads(about["preprocessing"]), json.loads(about["classes"])
height, width = how["size"]
for path in sys.argv[2:]:
    picture = ImageOps.exif_transpose(Image.open(path)).convert("L" if how["channels"] == 1 else "RGB")
    scale = max(height / picture.height, width / picture.width) / how["share"]
    x, y = (picture.width - width / scale) / 2, (picture.height - height / scale) / 2
    box = (x, y, picture.width - x, picture.height - y) if how["fit"] == "crop" else None
    picture = picture.resize((width, height), Image.Resampling[how["resample"].upper()], box=box)
    pixels = np.asarray(picture, np.float32).reshape(height, width, -1) / 255
    image = ((pixels - how["mean"]) / how["std"]).transpose(2, 0, 1)[None].astype(np.float32)
    scores = session.run(None, {"images": image})[0][0]
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    print(path, *(f"{classes[i]} {shares[i]:.6f}" for i in shares.argsort()[::-1][:5]), sep="\t")
