// Keeps the indices of a GPT dataset in files, under Megatron's names:
//   <folder>/<md5 of description>-GPTDataset-<split>-{description.txt,document_index.npy,
//   sample_index.npy,shuffle_index.npy}
// and a file of checksums of ours (checksum.json), by which damaged or outdated files are noticed.
#pragma once

#include <functional>
#include <string>

#include "megatron/data/gpt_dataset_index.h"
#include "megatron/data/split.h"

namespace megatron {

struct GPTDatasetCacheRequest {
  std::string folder;       // empty: nothing is kept
  std::string description;  // JSON text, see gpt_dataset_description
  Split split = Split::train;
  bool may_write = true;                         // rank 0's task; the others only read
  std::function<void(const std::string&)> note;  // told, in a line, why files were not used or kept
};

// Megatron's description of a dataset (gpt_dataset.py, unique_identifiers), indented by 4 as Python
// does. `tokenizer_identifiers`: a JSON object; `split_text`: the --split string.
std::string gpt_dataset_description(const std::string& dataset_path,
                                    const GPTDatasetIndexRequest& request, Split split,
                                    const std::string& split_text,
                                    const std::string& tokenizer_identifiers);

// Loads the indices if the files are there, whole and of this very data; builds them otherwise, and
// writes them if may_write. A rank that may not write and finds no files builds in memory, with the
// same result. A folder that cannot be written is noted, not an error.
GPTDatasetIndex load_or_build_gpt_dataset_index(const LowLevelDataset& data,
                                                const GPTDatasetIndexRequest& request,
                                                const GPTDatasetCacheRequest& cache);

}  // namespace megatron
