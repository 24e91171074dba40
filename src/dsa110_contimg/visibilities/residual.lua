-- AOFlagger strategy for the amplitudes of data minus model, their mean taken off: there is no
-- sky left to filter out, so one pass with the full sensitivity does. SumThreshold runs along
-- frequency only: 24 integrations are few, what lasts in time shows in the rms of its channel,
-- and the pass along time would take two thirds of all the time.
aoflagger.require_min_version("3.0")

function execute(input)
  local original = input:copy()
  aoflagger.sumthreshold_masked(input, original, 1.0, 1.0, false, true)
  local channels = input:copy()
  aoflagger.threshold_timestep_rms(input, 4.0)
  aoflagger.threshold_channel_rms(channels, 3.5, true)
  input:join_mask(channels)
  aoflagger.scale_invariant_rank_operator_masked(input, original, 0.1, 0.1)
  aoflagger.threshold_timestep_rms(input, 4.0)
end
