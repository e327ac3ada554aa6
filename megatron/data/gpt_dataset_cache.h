// Stores the indices of a GPT dataset in files with Megatron's names:
//   <folder>/<md5 of description>-GPTDataset-<split>-{description.txt,document_index.npy,
//   sample_index.npy,shuffle_index.npy}
// and adds checksum.json, which reveals damaged and outdated files.
#pragma once

#include <functional>
#include <string>

#include "megatron/data/gpt_dataset_index.h"
#include "megatron/data/split.h"

namespace megatron {

struct GPTDatasetCacheRequest {
  std::string folder;       // see gpt_dataset_cache_folder; empty: no files
  std::string description;  // JSON text, see gpt_dataset_description
  Split split = Split::train;
  bool may_write = true;                         // true on one rank
  std::function<void(const std::string&)> note;  // receives reasons for not using files
};

// The folder of the index files: --data-cache-path if given, otherwise Megatron's default beside
// the data, <folder of prefix>/cache/GPTDataset_indices.
std::string gpt_dataset_cache_folder(const std::string& data_cache_path,
                                     const std::string& data_prefix);

// Megatron's description of a dataset (unique_identifiers in gpt_dataset.py): JSON with Python's
// 4-space indentation. `tokenizer_identifiers` is a JSON object, `split_text` the --split string;
// empty for data that is used whole.
std::string gpt_dataset_description(const std::string& dataset_path,
                                    const GPTDatasetIndexRequest& request, Split split,
                                    const std::string& split_text,
                                    const std::string& tokenizer_identifiers);

// Maps the index files into memory if they exist, are intact and belong to this data. Otherwise
// builds the indices and, if may_write, writes the files and maps those, so that all ranks of a
// machine share one copy. A rank that may not write and finds no files builds the same indices in
// its own memory. A folder that cannot be written is noted, not an error.
GPTDatasetIndex load_or_build_gpt_dataset_index(const LowLevelDataset& data,
                                                const GPTDatasetIndexRequest& request,
                                                const GPTDatasetCacheRequest& cache);

}  // namespace megatron
