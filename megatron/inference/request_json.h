// Requests and results as JSON lines.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/inference/inference_request.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Reads {"prompt": "text" or [ids], ...}; docs/inference.md lists the keys. `defaults` has the values
// of absent ones. An empty prompt becomes the end-of-document token, where there is one. Throws
// Error that names the key: unknown keys, values of another type.
InferenceRequest request_from_json(const nlohmann::json& line, const InferenceRequest& defaults,
                                   const Tokenizer& tokenizer);

// {"text", "tokens", "logprobs", "finish_reason"}, with n > 1 those of the first sample and "samples"
// of all; {"error"} for a request that failed.
nlohmann::json result_to_json(const InferenceResult& result, const InferenceRequest& request);

// A line of a requests file: a request, or why it is none.
struct RequestLine {
  int64_t number = 0;  // in the file, from 1
  std::optional<InferenceRequest> request;
  std::string error;  // with file and line
};

// The lines of a JSON lines file that are not blank. Throws Error where the file cannot be read.
std::vector<RequestLine> read_request_lines(const std::string& path,
                                            const InferenceRequest& defaults,
                                            const Tokenizer& tokenizer);

}  // namespace megatron
