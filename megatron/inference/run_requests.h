// A list of requests through the engine, over all ranks of a model.
#pragma once

#include <map>
#include <vector>

#include "megatron/inference/inference_engine.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {

struct RunRequestsOptions {
  SchedulerConfig scheduler = {};  // its num_blocks is computed
  // Memory of the key-value cache on each rank. 0: as much as all requests need at once.
  int64_t buffer_bytes = 0;
  const Tokenizer* tokenizer = nullptr;
  at::Tensor known_ids = {};  // as in EngineOptions
  // Shares the requests out over the data-parallel copies of the model. Otherwise each copy runs
  // all of them.
  bool share_out = true;
  InferenceEngine::OnToken on_token = {};  // request = index in the list
};

struct RequestsOutcome {
  // By index in the list, on the ranks that schedule: the results of this copy's share. A request
  // that was refused has one completion with the error.
  std::map<int64_t, InferenceResult> results;
  SchedulerStatistics statistics;  // of this copy
};

// `chunks` are this rank's part of the model. Collective over its groups: every rank passes the same
// requests. Throws Error for a buffer of less than a block and as check_scheduler_config.
RequestsOutcome run_requests(const GPTModelChunks& chunks,
                             const std::vector<InferenceRequest>& requests,
                             const RunRequestsOptions& options);

// Texts by the index of a request, from all ranks that have some, on every rank of `world`.
std::map<int64_t, std::string> gather_by_request(const std::map<int64_t, std::string>& own,
                                                 const ProcessGroup& world);

// Blocks of the key-value cache that fit into a buffer. Throws Error that gives the sizes where none
// does.
int64_t blocks_in_buffer(int64_t buffer_bytes, int64_t bytes_per_block, int64_t block_size);

}  // namespace megatron
