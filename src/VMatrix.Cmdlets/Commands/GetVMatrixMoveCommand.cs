using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;

namespace VMatrix.Commands;

/// <summary>Shows moves, newest first: those that run and those of the past.</summary>
[Cmdlet(VerbsCommon.Get, "VMatrixMove")]
[OutputType(typeof(MoveRecord))]
public sealed class GetVMatrixMoveCommand : NarrowedCommand
{
    /// <summary>Only moves of servers with these names, with wildcards, or these ids.</summary>
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(ServerCompleter))]
    public string[]? Server { get; set; }

    /// <summary>Only moves that have come this far.</summary>
    [Parameter]
    public MoveStatus[]? Status { get; set; }

    /// <summary>Only moves that began after this.</summary>
    [Parameter]
    public DateTimeOffset? Since { get; set; }

    /// <summary>Most ended moves to show; 100 unless said.</summary>
    [Parameter]
    [ValidateRange(1, int.MaxValue)]
    public int Newest { get; set; } = 100;

    private protected override bool Show(IReadOnlyList<PoolObject>? narrowing)
    {
        var named = Filter(Server);
        bool narrowed = narrowing is not null || Server is not null || Status is not null;
        // The newest of those that are asked for, not those among the newest of all.
        var moves = InPool("Reading the history", (pool, cancellation) => pool.GetMovesAsync(Since, narrowed ? int.MaxValue : Newest, cancellation))
            .Where(m => (named(m.Move.ServerName) || named(m.Move.ServerId.ToString())) && (Status is null || Status.Contains(m.Status)) && (narrowing is null || narrowing.Any(n => IsMeant(n, m))));
        int ended = 0;
        WriteEach(moves.Where(m => m.EndedAt is null || ++ended <= Newest));
        ReportHistory();
        ReportState();
        return true;
    }

    private static bool IsMeant(PoolObject by, MoveRecord move) =>
        by.Move is { } one ? move.Id == one
        : by.Plan is { } plan ? move.PlanId == plan
        : by.Servers is { } servers ? servers.Contains(move.Move.ServerId)
        : by.Service is { } service ? Same(move.Move.Service, service)
        : by.Hosts is { } hosts && hosts.Any(h => Same(move.Move.FromHost, h) || Same(move.Move.ToHost, h));

    private static bool Same(string? one, string? other) => string.Equals(one, other, StringComparison.OrdinalIgnoreCase);
}
