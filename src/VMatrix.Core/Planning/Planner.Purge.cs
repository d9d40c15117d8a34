using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <content>Disposed servers whose time is up: deleted for good.</content>
public static partial class Planner
{
    /// <summary>A plan purges at most so many servers, those disposed of longest ago; the next plan purges more.</summary>
    private const int MostPurges = 50;

    /// <summary>Most of the time for which a server must stay due before it is purged.</summary>
    private static readonly TimeSpan s_longestPurgeWait = TimeSpan.FromDays(1);

    /// <summary>Of the time between two plans that find a server due no more than this part of its wait counts: one leap of the clock is not believed.</summary>
    private const int PurgeLooks = 4;

    private sealed partial class Draft
    {
        private readonly List<PurgeDue> _purgeDue = [];

        /// <summary>
        /// Adds a purge for each server that was disposed of longer ago than <c>nest.purgeAfter</c> and that nobody is at. What is deleted is gone,
        /// and a clock may be wrong: a server has to stay due, plan after plan, for <c>purgeAfter</c> again or a day, whichever is shorter. One that
        /// is found not to be due meanwhile, for the clock was set right, begins anew.
        /// </summary>
        private void PlanPurges()
        {
            var after = _input.Pool.Nest.PurgeAfter;
            var wait = after < s_longestPurgeWait ? after : s_longestPurgeWait;
            var most = TimeSpan.FromTicks(wait.Ticks / PurgeLooks);
            var before = new Dictionary<Guid, PurgeDue>();
            foreach (var seen in _input.Memory?.PurgeDue ?? [])
                before[seen.Server] = seen;
            foreach (var server in _input.Servers.Where(s => s.Mark.Stage is Stage.Disposed && s.Mark.ChangedAt > DateTimeOffset.MinValue && Now - s.Mark.ChangedAt >= after))
            {
                var passed = before.TryGetValue(server.Mark.ServerId, out var seen) ? Now - seen.SeenAt : TimeSpan.Zero;
                passed = passed < TimeSpan.Zero ? TimeSpan.Zero : passed < most ? passed : most;
                _purgeDue.Add(new PurgeDue(server.Mark.ServerId, Now, (seen?.For ?? TimeSpan.Zero) + passed));
            }

            var dueFor = _purgeDue.ToDictionary(d => d.Server, d => d.For);
            var due = _input.Servers
                .Where(s => dueFor.ContainsKey(s.Mark.ServerId) && !s.Claimed && s.Waits is null && !(s.Mark.HeldUntil > Now))
                .OrderBy(s => s.Mark.ChangedAt).ThenBy(s => s.Mark.ServerId).ToList();
            foreach (var waiting in due.Where(s => dueFor[s.Mark.ServerId] < wait && Modes.Of(_input.Pool, s.Mark.Service) is not OracleMode.Shadow).GroupBy(s => s.Mark.Service, StringComparer.Ordinal))
                _refused.Add(new RefusedMove(Words.Text($"purge {Words.Servers(waiting.Count())} of {waiting.Key}"), $"by the clock nest.purgeAfter ({Days(after)}) has passed; a clock may be wrong, so it has to stay so for {Days(wait)}"));
            due.RemoveAll(s => dueFor[s.Mark.ServerId] < wait);
            foreach (var shadowed in due.Where(s => Modes.Of(_input.Pool, s.Mark.Service) is OracleMode.Shadow).GroupBy(s => s.Mark.Service, StringComparer.Ordinal))
                _refused.Add(new RefusedMove(Words.Text($"purge {Words.Servers(shadowed.Count())} of {shadowed.Key}"), $"{IsShadowed}; it would be because nest.purgeAfter is {Days(after)}"));
            foreach (var server in due.Where(s => Modes.Of(_input.Pool, s.Mark.Service) is not OracleMode.Shadow && !(_byName.TryGetValue(s.Mark.Service, out var service) && service.Frozen is not null)).Take(MostPurges))
            {
                _moves.Add(new Move
                {
                    Id = NewId("Purge", server.Mark.ServerId.ToString()),
                    Kind = MoveKind.Purge,
                    ServerId = server.Mark.ServerId,
                    ServerName = server.Mark.Name,
                    Service = server.Mark.Service,
                    FromStage = Stage.Disposed,
                    FromHost = server.Host,
                    Generation = server.Mark.Generation,
                    ToStage = Stage.Disposed,
                    Reason = $"it was disposed of {Days(Now - server.Mark.ChangedAt)} ago, and nest.purgeAfter is {Days(after)}",
                });
            }
        }

        private static string Days(TimeSpan time) => time < TimeSpan.FromDays(1) ? Words.Seconds(time) : Words.Text($"{time.TotalDays:0.##} days");
    }
}
