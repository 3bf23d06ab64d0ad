#include "actors/runner/fold_work.hpp"

#include "config/digest.hpp"
#include "config/zstd.hpp"

namespace ntrace::runner {

result<packed_stacks> pack_stacks(fold_work& work) {
  if (work.fed) work.fed = work.feed->finish();
  if (!work.fed) return fail(work.fed.error());
  auto folded = work.folder->finish();
  if (!folded) return fail(folded.error());
  const auto text = folded->stacks.folded();
  packed_stacks out;
  out.zstd = zstd_packed(text);
  sha256 digest;
  digest.add(text);
  const auto& r = folded->report;
  out.samples = r.samples;
  out.facts = {{"samples", r.samples},
               {"unresolved_jit", r.unresolved_jit},
               {"ambiguous_jit", r.ambiguous_jit},
               {"truncated_stacks", r.truncated},
               {"stacks_digest", "sha256:" + digest.hex()}};
  return out;
}

}  // namespace ntrace::runner
