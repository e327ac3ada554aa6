#include "megatron/convert/rank_agreement.h"

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/parallel/object_collectives.h"

namespace megatron {

std::string agree_on_step(const ProcessGroup& world, const std::string& purpose,
                          const std::function<std::string()>& step,
                          const std::function<void()>& clean_up) {
  using nlohmann::json;
  json message;
  try {
    message["value"] = step();
  } catch (const std::exception& error) {
    message["failure"] = error_message(error);
  }
  const auto replies = all_gather_strings(
      message.dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace), world);
  std::string failure;
  for (size_t i = 0; i < replies.size() && failure.empty(); ++i) {
    const json reply = json::parse(replies[i]);
    if (!reply.contains("failure")) continue;
    const auto text = reply["failure"].get<std::string>();
    failure = world.size() == 1 ? text : fmt::format("rank {}: {}", world.ranks()[i], text);
  }
  if (failure.empty()) return json::parse(replies[0])["value"].get<std::string>();
  clean_up();
  world.barrier();  // what the first rank removes is gone before any rank reports
  fail("Expected to {}, but could not: {}", purpose, failure);
}

}  // namespace megatron
