// Continuous batching: which tokens of which sequences the model computes in the next step, and in
// which blocks of the cache they live. The scheduler knows no model, clock or randomness: the same
// calls give the same steps.
//
// - Running sequences decode one token a step. Prompts are computed in chunks between them.
// - Older sequences come first: admission, chunks and memory are given in the order of arrival, so
//   none starves. Where blocks run out, the youngest sequence is evicted: it returns to the queue
//   and computes its keys and values again.
// - What is computed for a sequence does not depend on the others: chunks start at multiples of the
//   chunk size, a prefix is shared only as far as it was computed in the same chunks, and an evicted
//   sequence repeats its own steps. A runner whose rows do not see each other therefore gives
//   bit-equal results whatever runs beside a sequence.
// - With speculation a decoding row has drafts after its token (ngram_lookup.h). Which of them hold
//   is known from their logits, so a row may give several tokens.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "megatron/inference/block_manager.h"
#include "megatron/inference/step_batch.h"

namespace megatron {

struct SchedulerConfig {
  int64_t block_size = 64;    // tokens
  int64_t num_blocks = 0;     // of the cache
  int64_t max_requests = 16;  // sequences that run at once
  int64_t max_tokens = 512;   // token budget of a step
  int64_t chunk_size = 128;   // tokens of a prompt's chunk; a multiple of the block size
  bool prefix_caching = true;
  // Rotary frequencies depend on the sequence length (dynamic scaling, longrope): only sequences of
  // one prompt length share blocks.
  bool length_dependent_positions = false;
  // longrope: a sequence that grows beyond this length computes all its keys again. 0: never.
  int64_t recompute_length = 0;
  int64_t num_speculative_tokens = 0;  // drafts of a row at most; not with such frequencies
};

// Throws Error that lists the numbers: a budget that cannot hold a chunk beside the decoding
// sequences, a chunk that is no multiple of the block size, sizes below 1.
void check_scheduler_config(const SchedulerConfig& config);

struct NewSequence {
  int64_t id = 0;  // unique; ids increase in the order of arrival
  std::vector<int64_t> prompt;
  int64_t max_length = 0;            // prompt and new tokens; at least one new token
  bool wants_prompt_logits = false;  // of all prompt tokens
  // Waits until this sequence has computed its prompt, to share the blocks. Less than `id`.
  std::optional<int64_t> shares_prompt_of = {};
};

// `count` tokens of a sequence, the first at `position`; the last `drafts` of them are proposals.
struct ScheduledRow {
  int64_t sequence = 0, position = 0, count = 0, drafts = 0;
  RowLogits logits = RowLogits::none;
  // The next token follows from the logits of the last token that is no draft, and one more from
  // those of each draft that holds.
  bool samples = false;
  int64_t sequence_length = 0;
};

// The next tokens of a row that samples: one, and one for each draft that equals the token before
// it in this list. `ends`: the sequence ends with them.
struct NextTokens {
  std::vector<int64_t> tokens;
  bool ends = false;
};

struct SchedulerStatistics {
  int64_t steps = 0, computed_tokens = 0, shared_tokens = 0, evicted_sequences = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;  // of rows that sample
};

class Scheduler {
 public:
  // Throws Error as check_scheduler_config.
  explicit Scheduler(const SchedulerConfig& config);

  // Throws Error where the sequence cannot fit into the cache even alone.
  void add(NewSequence sequence);
  // Ends a sequence and releases its blocks. Unknown ids are ignored: it may have ended before.
  void cancel(int64_t id);
  // A paused sequence is not scheduled. It keeps its blocks while no running one needs them.
  void pause(int64_t id);
  void resume(int64_t id);
  // Releases a sequence's blocks; it computes them again once it runs.
  void evict(int64_t id);

  // Whether a sequence runs or waits; paused ones do not count.
  bool has_work() const;
  bool contains(int64_t id) const { return sequences_.contains(id); }

  // The rows of the next step, at most max_tokens tokens. Empty only without work. Each call must be
  // followed by complete() with its rows.
  std::vector<ScheduledRow> next_step();
  // A row for the runner, valid until the next call of a function that is not const.
  StepRow step_row(const ScheduledRow& row) const;
  // Takes the results of a step: NextTokens for each row that samples, in order. Rows of
  // sequences that were cancelled or evicted meanwhile are ignored.
  void complete(std::span<const ScheduledRow> rows, std::span<const NextTokens> next_tokens);

  const BlockManager& blocks() const { return blocks_; }
  const SchedulerConfig& config() const { return config_; }
  const SchedulerStatistics& statistics() const { return statistics_; }
  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }

 private:
  struct Sequence {
    NewSequence request;
    std::vector<int64_t> tokens;  // prompt and generated
    // Tokens that are computed in chunks; those after it one by one. The prompt, or what longrope
    // computes again.
    int64_t prefill_length = 0;
    int64_t computed = 0;             // tokens whose keys and values are cached
    int64_t prompt_logits_given = 0;  // prompt tokens whose logits were returned
    std::vector<int64_t> blocks;
    std::vector<BlockKey> keys;         // of the full blocks
    std::vector<int64_t> drafts;        // of the row that is scheduled
    std::vector<int64_t> draft_tokens;  // a token and its drafts
    bool paused = false;

    int64_t length() const { return static_cast<int64_t>(tokens.size()); }
    bool in_prefill() const { return computed < prefill_length; }
  };
  using Rows = std::vector<ScheduledRow>;

  // Whether logits of the prompt are still to come.
  static bool wants_prompt_logits(const Sequence& sequence) {
    return sequence.request.wants_prompt_logits &&
           sequence.prompt_logits_given < static_cast<int64_t>(sequence.request.prompt.size());
  }
  // Proposals after the token at `position` of a sequence that decodes.
  std::vector<int64_t> drafts_at(const Sequence& sequence, int64_t position) const;
  // How many of the drafts after `position` the tokens that are known confirm.
  static int64_t confirmed(const Sequence& sequence, int64_t position,
                           const std::vector<int64_t>& drafts);
  bool starts_row(const Sequence& sequence, int64_t position) const;
  int64_t next_count(const Sequence& sequence) const;
  ScheduledRow next_row(Sequence& sequence) const;
  const BlockKey& key_of_block(Sequence& sequence, int64_t index);
  void share_prefix(Sequence& sequence);
  bool reserve(Sequence& sequence, int64_t tokens, Rows& rows, int64_t& budget);
  void release_blocks(Sequence& sequence);
  void preempt(Sequence& sequence);
  Sequence* victim_for(const Sequence& sequence);
  void schedule_running(Rows& rows, int64_t& budget, bool prefill);
  void admit(Rows& rows, int64_t& budget);
  bool waits_for_prompt(const Sequence& sequence) const;
  void remove(int64_t id);
  Sequence* find(int64_t id);

  SchedulerConfig config_;
  BlockManager blocks_;
  std::map<int64_t, Sequence> sequences_;
  // Ids in the order of arrival; paused sequences are in neither.
  std::set<int64_t> running_, waiting_;
  SchedulerStatistics statistics_;
};

}  // namespace megatron
