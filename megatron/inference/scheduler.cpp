#include "megatron/inference/scheduler.h"

#include <algorithm>
#include <ranges>

#include "megatron/base/error.h"
#include "megatron/inference/ngram_lookup.h"

namespace megatron {

void check_scheduler_config(const SchedulerConfig& config) {
  check(config.max_requests >= 1, "Expected max_requests of at least 1, but got {}",
        config.max_requests);
  check(config.block_size >= 1, "Expected block_size of at least 1 token, but got {}",
        config.block_size);
  check(config.chunk_size >= 1 && config.chunk_size % config.block_size == 0,
        "Expected chunk_size as a multiple of block_size {}, but got {}; {} works",
        config.block_size, config.chunk_size,
        std::max<int64_t>(1, config.chunk_size / config.block_size) * config.block_size);
  check(config.num_speculative_tokens >= 0,
        "Expected num_speculative_tokens of at least 0, but got {}", config.num_speculative_tokens);
  check(config.num_speculative_tokens == 0 || !config.length_dependent_positions,
        "Expected num_speculative_tokens 0 with longrope or dynamic scaling, whose frequencies "
        "depend on the length, but got {}",
        config.num_speculative_tokens);
  const int64_t of_row = 1 + config.num_speculative_tokens;
  const int64_t least = (config.max_requests - 1) * of_row + std::max(config.chunk_size, of_row);
  check(config.max_tokens >= least,
        "Expected max_tokens of at least {}, for a chunk of {} tokens beside {} decoding requests "
        "of {}, but got {}",
        least, std::max(config.chunk_size, of_row), config.max_requests - 1, of_row,
        config.max_tokens);
}

Scheduler::Scheduler(const SchedulerConfig& config)
    : config_((check_scheduler_config(config), config)),
      blocks_(config.num_blocks, config.block_size) {}

void Scheduler::add(NewSequence sequence) {
  const auto prompt = static_cast<int64_t>(sequence.prompt.size());
  check(prompt >= 1, "Expected a prompt of at least one token, but got none");
  check(sequence.max_length > prompt,
        "Expected max_length beyond the prompt of {} tokens, but got {}", prompt,
        sequence.max_length);
  // The last token is never fed back.
  const int64_t needed = blocks_.blocks_for(sequence.max_length - 1);
  check(
      needed <= blocks_.num_blocks(),
      "Expected prompt and continuation within the {} tokens of the key-value cache ({} blocks of "
      "{}), but got {} + {}",
      blocks_.num_blocks() * config_.block_size, blocks_.num_blocks(), config_.block_size, prompt,
      sequence.max_length - prompt);
  check(sequences_.empty() || sequence.id > sequences_.rbegin()->first,
        "Expected an id above {}, but got {}", sequences_.empty() ? 0 : sequences_.rbegin()->first,
        sequence.id);
  Sequence added;
  added.tokens = sequence.prompt;
  added.prefill_length = prompt;
  added.request = std::move(sequence);
  const int64_t id = added.request.id;
  waiting_.insert(id);
  sequences_.emplace(id, std::move(added));
}

Scheduler::Sequence* Scheduler::find(int64_t id) {
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : &found->second;
}

void Scheduler::release_blocks(Sequence& sequence) {
  while (!sequence.blocks.empty()) {
    blocks_.release(sequence.blocks.back());
    sequence.blocks.pop_back();
  }
  sequence.computed = 0;
}

void Scheduler::remove(int64_t id) {
  release_blocks(sequences_.at(id));
  running_.erase(id);
  waiting_.erase(id);
  sequences_.erase(id);
}

void Scheduler::cancel(int64_t id) {
  if (contains(id)) remove(id);
}

void Scheduler::pause(int64_t id) {
  Sequence* sequence = find(id);
  if (sequence == nullptr) return;
  sequence->paused = true;
  running_.erase(id);
  waiting_.erase(id);
}

void Scheduler::resume(int64_t id) {
  Sequence* sequence = find(id);
  if (sequence == nullptr || !sequence->paused) return;
  sequence->paused = false;
  waiting_.insert(id);
}

void Scheduler::preempt(Sequence& sequence) {
  release_blocks(sequence);
  if (!sequence.paused) {
    running_.erase(sequence.request.id);
    waiting_.insert(sequence.request.id);
  }
  ++statistics_.evicted_sequences;
}

void Scheduler::evict(int64_t id) {
  Sequence* sequence = find(id);
  if (sequence != nullptr && !sequence->blocks.empty()) preempt(*sequence);
}

bool Scheduler::has_work() const {
  return !running_.empty() || !waiting_.empty();
}

// Full chunks of a prompt are the same for all sequences that begin with them. What follows is
// computed in a shorter chunk and token by token, from where the prompt ends. Drafts also depend on
// where the sequence may end.
const BlockKey& Scheduler::key_of_block(Sequence& sequence, int64_t index) {
  const int64_t in_full_chunks = sequence.prefill_length / config_.chunk_size * config_.chunk_size;
  const int64_t variant =
      sequence.prefill_length +
      (config_.num_speculative_tokens > 0 ? sequence.request.max_length << 32 : 0);
  while (static_cast<int64_t>(sequence.keys.size()) <= index) {
    const auto next = static_cast<int64_t>(sequence.keys.size());
    const int64_t first = next * config_.block_size;
    const bool depends_on_prompt_length =
        config_.length_dependent_positions || first >= in_full_chunks;
    sequence.keys.push_back(block_key(next == 0 ? BlockKey() : sequence.keys.back(),
                                      std::span(sequence.tokens).subspan(first, config_.block_size),
                                      depends_on_prompt_length ? variant : 0));
  }
  return sequence.keys[index];
}

void Scheduler::share_prefix(Sequence& sequence) {
  if (!config_.prefix_caching) return;
  // The last token is computed in any case: its logits give the next one.
  int64_t limit = sequence.length() - 1;
  if (wants_prompt_logits(sequence)) limit = std::min(limit, sequence.prompt_logits_given);
  int64_t shared = 0;
  while ((shared + 1) * config_.block_size <= limit &&
         blocks_.contains(key_of_block(sequence, shared)))
    ++shared;
  // A chunk is computed as a whole.
  if (shared * config_.block_size < sequence.prefill_length) {
    const int64_t blocks_of_chunk = config_.chunk_size / config_.block_size;
    shared = shared / blocks_of_chunk * blocks_of_chunk;
  } else if (config_.num_speculative_tokens > 0) {
    while (shared * config_.block_size >= sequence.prefill_length &&
           !starts_row(sequence, shared * config_.block_size))
      --shared;
    if (shared * config_.block_size < sequence.prefill_length) {
      const int64_t blocks_of_chunk = config_.chunk_size / config_.block_size;
      shared = shared / blocks_of_chunk * blocks_of_chunk;
    }
  }
  for (int64_t i = 0; i < shared; ++i)
    sequence.blocks.push_back(*blocks_.find(key_of_block(sequence, i)));
  sequence.computed = shared * config_.block_size;
  statistics_.shared_tokens += sequence.computed;
}

std::vector<int64_t> Scheduler::drafts_at(const Sequence& sequence, int64_t position) const {
  // One token follows in any case.
  const int64_t room = sequence.request.max_length - (position + 1) - 1;
  return propose_by_ngram(std::span(sequence.tokens).first(position + 1),
                          std::min(config_.num_speculative_tokens, room));
}

int64_t Scheduler::confirmed(const Sequence& sequence, int64_t position,
                             const std::vector<int64_t>& drafts) {
  int64_t count = 0;
  while (count < std::ssize(drafts) && position + 1 + count < sequence.length() &&
         drafts[count] == sequence.tokens[position + 1 + count])
    ++count;
  return count;
}

// Whether a row of the sequence began at `position`, which is not in the prompt.
bool Scheduler::starts_row(const Sequence& sequence, int64_t position) const {
  int64_t start = sequence.prefill_length;
  while (start < position) start += 1 + confirmed(sequence, start, drafts_at(sequence, start));
  return start == position;
}

int64_t Scheduler::next_count(const Sequence& sequence) const {
  if (!sequence.in_prefill()) return 1 + std::ssize(sequence.drafts);
  const int64_t chunk_end = (sequence.computed / config_.chunk_size + 1) * config_.chunk_size;
  return std::min(chunk_end, sequence.prefill_length) - sequence.computed;
}

ScheduledRow Scheduler::next_row(Sequence& sequence) const {
  sequence.drafts.clear();
  if (!sequence.in_prefill()) sequence.drafts = drafts_at(sequence, sequence.computed);
  ScheduledRow row{.sequence = sequence.request.id,
                   .position = sequence.computed,
                   .count = next_count(sequence),
                   .drafts = std::ssize(sequence.drafts)};
  const int64_t end = row.position + row.count;
  row.samples = end - row.drafts == sequence.length();
  if (sequence.in_prefill()) row.sequence_length = sequence.prefill_length;
  if (row.samples) row.logits = row.drafts > 0 ? RowLogits::all : RowLogits::last;
  if (row.drafts > 0) {
    sequence.draft_tokens.assign(1, sequence.tokens[row.position]);
    sequence.draft_tokens.insert(sequence.draft_tokens.end(), sequence.drafts.begin(),
                                 sequence.drafts.end());
  }
  if (wants_prompt_logits(sequence) && end > sequence.prompt_logits_given)
    row.logits = RowLogits::all;
  return row;
}

// The sequence that loses its blocks to `sequence`: a paused one or one that waits after a pause,
// else the youngest that runs. Null where that is `sequence` itself.
Scheduler::Sequence* Scheduler::victim_for(const Sequence& sequence) {
  for (auto& [id, other] : std::views::reverse(sequences_)) {
    if (!other.blocks.empty() && !running_.contains(id) && id != sequence.request.id) return &other;
  }
  const int64_t youngest = *running_.rbegin();
  return youngest == sequence.request.id ? nullptr : find(youngest);
}

// Gives a running sequence the blocks of its first `tokens` tokens. Others may lose theirs, and with
// them their rows of this step. False where the sequence itself had to yield.
bool Scheduler::reserve(Sequence& sequence, int64_t tokens, Rows& rows, int64_t& budget) {
  const int64_t needed = blocks_.blocks_for(tokens);
  while (std::ssize(sequence.blocks) < needed) {
    if (const auto block = blocks_.allocate()) {
      sequence.blocks.push_back(*block);
      continue;
    }
    Sequence* victim = victim_for(sequence);
    if (victim == nullptr) {
      preempt(sequence);
      return false;
    }
    std::erase_if(rows, [&](const ScheduledRow& row) {
      if (row.sequence != victim->request.id) return false;
      budget += row.count;
      return true;
    });
    preempt(*victim);
  }
  return true;
}

void Scheduler::schedule_running(Rows& rows, int64_t& budget, bool prefill) {
  const std::vector<int64_t> ids(running_.begin(), running_.end());
  for (const int64_t id : ids) {
    Sequence& sequence = sequences_.at(id);
    if (!running_.contains(id) || sequence.in_prefill() != prefill) continue;
    const ScheduledRow row = next_row(sequence);
    if (row.count > budget) return;
    if (!reserve(sequence, row.position + row.count, rows, budget)) continue;
    rows.push_back(row);
    budget -= row.count;
  }
}

bool Scheduler::waits_for_prompt(const Sequence& sequence) const {
  if (!sequence.request.shares_prompt_of || !config_.prefix_caching) return false;
  const auto leader = sequences_.find(*sequence.request.shares_prompt_of);
  return leader != sequences_.end() && !leader->second.paused &&
         leader->second.length() == std::ssize(leader->second.request.prompt);
}

void Scheduler::admit(Rows& rows, int64_t& budget) {
  const std::vector<int64_t> ids(waiting_.begin(), waiting_.end());
  for (const int64_t id : ids) {
    if (running() >= config_.max_requests) return;
    Sequence& sequence = sequences_.at(id);
    if (waits_for_prompt(sequence)) continue;
    const bool holds_blocks = !sequence.blocks.empty();  // after a pause
    if (!holds_blocks) share_prefix(sequence);
    const ScheduledRow row = next_row(sequence);
    const int64_t needed =
        blocks_.blocks_for(row.position + row.count) - std::ssize(sequence.blocks);
    // Running sequences keep a block each to grow into, so that they are not evicted at once. A
    // sequence that runs alone gets the blocks of paused ones.
    const bool has_room = running_.empty() || needed + running() <= blocks_.available();
    if (row.count > budget || !has_room) {
      if (!holds_blocks) release_blocks(sequence);
      return;
    }
    waiting_.erase(id);
    running_.insert(id);
    if (!reserve(sequence, row.position + row.count, rows, budget)) return;
    rows.push_back(row);
    budget -= row.count;
  }
}

std::vector<ScheduledRow> Scheduler::next_step() {
  Rows rows;
  int64_t budget = config_.max_tokens;
  const int64_t evicted = statistics_.evicted_sequences;
  schedule_running(rows, budget, /*prefill=*/false);
  schedule_running(rows, budget, /*prefill=*/true);
  if (statistics_.evicted_sequences == evicted) admit(rows, budget);
  ++statistics_.steps;
  statistics_.computed_tokens += config_.max_tokens - budget;
  return rows;
}

StepRow Scheduler::step_row(const ScheduledRow& row) const {
  const Sequence& sequence = sequences_.at(row.sequence);
  return {.tokens = row.drafts > 0 ? std::span(sequence.draft_tokens)
                                   : std::span(sequence.tokens).subspan(row.position, row.count),
          .position = row.position,
          .blocks = std::span(sequence.blocks).first(blocks_.blocks_for(row.position + row.count)),
          .logits = row.logits,
          .sequence_length = row.sequence_length};
}

void Scheduler::complete(std::span<const ScheduledRow> rows,
                         std::span<const NextTokens> next_tokens) {
  size_t next = 0;
  for (const ScheduledRow& row : rows) {
    const NextTokens* sampled = nullptr;
    if (row.samples) {
      check(next < next_tokens.size(), "Expected tokens for every row that samples, but got {}",
            next_tokens.size());
      sampled = &next_tokens[next++];
    }
    Sequence* sequence = find(row.sequence);
    if (sequence == nullptr || sequence->blocks.empty() || sequence->computed != row.position)
      continue;
    const int64_t before = sequence->computed / config_.block_size;
    if (sampled != nullptr) {
      const std::vector<int64_t>& tokens = sampled->tokens;
      sequence->tokens.insert(sequence->tokens.end(), tokens.begin(), tokens.end());
      statistics_.drafted_tokens += row.drafts;
      statistics_.accepted_tokens += std::max<int64_t>(std::ssize(tokens) - 1, 0);
    }
    // Keys and values of drafts that do not hold are written again.
    sequence->computed +=
        row.drafts == 0 ? row.count : 1 + confirmed(*sequence, row.position, sequence->drafts);
    if (config_.prefix_caching) {
      for (int64_t i = before; i < sequence->computed / config_.block_size; ++i)
        blocks_.publish(sequence->blocks[i], key_of_block(*sequence, i));
    }
    if (wants_prompt_logits(*sequence) && row.logits == RowLogits::all)
      sequence->prompt_logits_given = std::max(sequence->prompt_logits_given, sequence->computed);
    if (sampled == nullptr) continue;
    if (sampled->ends || sequence->length() >= sequence->request.max_length) {
      remove(row.sequence);
    } else if (sequence->computed == config_.recompute_length) {
      release_blocks(*sequence);
      sequence->keys.clear();
      sequence->prefill_length = sequence->length();
    }
  }
  check(next == next_tokens.size(), "Expected {} tokens, one for each row that samples, but got {}",
        next, next_tokens.size());
}

}  // namespace megatron
