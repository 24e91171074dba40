-- AOFlagger strategy for the mean over all baselines, its trends with time and frequency taken
-- off: what is left is noise and what every antenna received.
aoflagger.require_min_version("3.0")

function execute(input)
  local original = input:copy()
  aoflagger.sumthreshold_masked(input, original, 1.0, 1.0, true, true)
  aoflagger.scale_invariant_rank_operator_masked(input, original, 0.1, 0.1)
end
