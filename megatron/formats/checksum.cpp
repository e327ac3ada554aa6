#include "megatron/formats/checksum.h"

#include <new>
#include <xxhash.h>

#include <fmt/format.h>

namespace megatron {
namespace {

std::string to_hex(XXH64_hash_t hash) {
  return fmt::format("{:016x}", hash);
}

}  // namespace

void Checksum::Release::operator()(void* state) const {
  XXH3_freeState(static_cast<XXH3_state_t*>(state));
}

Checksum::Checksum() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_.get()));
}

void Checksum::update(const void* data, size_t bytes) {
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_.get()), data, bytes);
}

std::string Checksum::hex() const {
  return to_hex(XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_.get())));
}

std::string checksum_hex(const void* data, size_t bytes) {
  return to_hex(XXH3_64bits(data, bytes));
}

}  // namespace megatron
