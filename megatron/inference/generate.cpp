#include "megatron/inference/generate.h"

#include <memory>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/pipeline/pipeline_forward.h"

namespace megatron {
namespace {

class Decoder {
 public:
  Decoder(const GPTModelChunks& chunks, int64_t batch, int64_t max_length)
      : chunks_(chunks), batch_(batch), cache_(max_length) {}

  // Appends tokens [b, s] to the cached sequences. Returns the logits [b, v] of the last position
  // on the last pipeline stage, an undefined tensor on the others.
  at::Tensor feed(const at::Tensor& tokens) {
    const int64_t first = cache_.sequence_length_offset(), s = tokens.size(1);
    const at::Device device = chunks_.front()->tensor_options().device();
    const at::Tensor positions = at::arange(first, first + s, at::kLong);
    ForwardContext context;
    context.sample_ordinals = at::arange(batch_, at::kLong);
    context.positions = context.residual_positions = positions;
    at::Tensor logits;
    run_pipeline_forward(
        chunks_,
        {{.input = {.input_ids = tokens.to(device),
                    .position_ids = positions.expand({batch_, s}).contiguous().to(device),
                    .inference_context = &cache_,
                    .runtime_gather_output = true},
          .context = context}},
        {.on_output = [&](int64_t, const at::Tensor& output) {
          logits = output.select(1, 0);
          return output;
        }});
    cache_.advance(s);
    return logits;
  }

  int64_t length() const { return cache_.sequence_length_offset(); }

 private:
  const GPTModelChunks& chunks_;
  int64_t batch_;
  InferenceContext cache_;
};

// Whether longrope rotates the sequence with `tokens` more by other frequencies than its `cached`
// keys, which then have to be computed again.
bool changes_frequencies(const GPTModelConfig& config, int64_t cached, int64_t tokens) {
  const int64_t original = config.rope_scaling_original_max_position_embeddings;
  return config.has_longrope() && cached > 0 && cached <= original && cached + tokens > original;
}

}  // namespace

void check_request(const GPTModelConfig& config, const GenerateRequest& request) {
  const auto prompt_length = static_cast<int64_t>(request.prompt.size());
  const int64_t total = prompt_length + request.max_new_tokens,
                limit = config.max_sequence_length();
  check(prompt_length > 0, "Expected a prompt of at least one token, but got none");
  check(!config.transformer.sequence_parallel,
        "Expected generation without sequence parallelism, but got sequence_parallel");
  check(!request.known_ids.defined() ||
            (request.known_ids.dim() == 1 && request.known_ids.size(0) <= *config.vocab_size),
        "Expected known_ids of at most the model's {} ids, but got shape {}", *config.vocab_size,
        request.known_ids.defined() ? request.known_ids.sizes().vec() : std::vector<int64_t>());
  check(config.position_embedding_type != PositionEmbeddingType::learned_absolute || total <= limit,
        "Expected prompt and continuation within the model's {} positions, but got {} + {}; {}",
        limit, prompt_length, request.max_new_tokens,
        prompt_length < limit
            ? fmt::format("max_new_tokens={} works", limit - prompt_length)
            : fmt::format("a prompt of {} tokens with max_new_tokens=1 works", limit - 1));
}

std::vector<std::vector<int64_t>> generate(
    const GPTModelChunks& chunks, const GenerateRequest& request,
    const std::function<void(const std::vector<int64_t>&)>& on_token) {
  const GPTModel& model = *chunks.front();
  check_request(model.config(), request);
  const auto prompt_length = static_cast<int64_t>(request.prompt.size());
  const int64_t batch = request.num_samples;
  const ProcessGroup& pp = *model.groups().pp;
  const int64_t most = prompt_length + request.max_new_tokens;
  auto decoder = std::make_unique<Decoder>(chunks, batch, most);
  std::vector<std::vector<int64_t>> continuations(batch);
  std::vector<bool> ended(batch, false);
  at::Tensor next = at::tensor(request.prompt, at::kLong)
                        .unsqueeze(0)
                        .expand({batch, prompt_length})
                        .contiguous();
  at::Tensor sequence = next;
  for (int64_t step = 0; step < request.max_new_tokens; ++step) {
    if (changes_frequencies(model.config(), decoder->length(), next.size(1))) {
      decoder = std::make_unique<Decoder>(chunks, batch, most);
      next = sequence;
    }
    const at::Tensor logits = decoder->feed(next);
    next = at::zeros({batch}, at::kLong);
    if (logits.defined()) {
      next.copy_(sample_tokens(logits, *model.config().vocab_size, request.sampling,
                               decoder->length(), request.known_ids));
    }
    pp.broadcast(next, pp.size() - 1);
    std::vector<int64_t> tokens(next.data_ptr<int64_t>(), next.data_ptr<int64_t>() + batch);
    for (int64_t row = 0; row < batch; ++row) {
      if (ended[row]) continue;
      continuations[row].push_back(tokens[row]);
      ended[row] = request.end_token && tokens[row] == *request.end_token;
    }
    if (on_token) on_token(tokens);
    if (std::ranges::all_of(ended, [](bool row_ended) { return row_ended; })) break;
    next = next.unsqueeze(1);
    sequence = at::cat({sequence, next}, /*dim=*/1);
  }
  return continuations;
}

}  // namespace megatron
