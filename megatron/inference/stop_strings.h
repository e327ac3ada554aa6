// Ends a text where a stop string begins, also where it spans several tokens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

class StopStrings {
 public:
  // Throws Error for an empty string.
  explicit StopStrings(std::vector<std::string> stops);

  struct Fed {
    std::string text;      // that is certain to come before any stop string
    bool stopped = false;  // a stop string is complete; the text ends before it
  };
  // Takes the bytes of the next token. An end that may begin a stop string is held back.
  Fed feed(std::string_view bytes);
  // The text that was held back, where the sequence ends otherwise.
  std::string flush();

 private:
  std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace megatron
