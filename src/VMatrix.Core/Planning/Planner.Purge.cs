using System;
using System.Collections.Generic;
using System.Linq;

namespace VMatrix.Planning;

/// <content>Disposed servers whose time is up: deleted for good.</content>
public static partial class Planner
{
    /// <summary>A plan purges at most so many servers, those disposed of longest ago; the next plan purges more.</summary>
    private const int MostPurges = 50;

    private sealed partial class Draft
    {
        /// <summary>Adds a purge for each server that was disposed of longer ago than <c>nest.purgeAfter</c> and that nobody is at.</summary>
        private void PlanPurges()
        {
            var after = _input.Pool.Nest.PurgeAfter;
            var due = _input.Servers
                .Where(s => s.Mark.Stage is Stage.Disposed && !s.Claimed && s.Waits is null && !(s.Mark.HeldUntil > Now) && s.Mark.ChangedAt > DateTimeOffset.MinValue && Now - s.Mark.ChangedAt >= after)
                .OrderBy(s => s.Mark.ChangedAt).ThenBy(s => s.Mark.ServerId).ToList();
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
