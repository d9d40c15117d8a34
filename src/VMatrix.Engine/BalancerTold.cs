using System;
using System.Collections.Generic;
using VMatrix.Drivers;

namespace VMatrix;

/// <summary>What a balancer told of single servers in its last answer, and how busy their processors were where that is measured.</summary>
internal sealed class BalancerTold
{
    private readonly Dictionary<Guid, BalancerMember> _members = [];
    private readonly IReadOnlyDictionary<Guid, double>? _uses;

    /// <param name="report">The answer.</param>
    /// <param name="uses">Share of its own processors that each server used, from 0 to 1; null where nobody measures it.</param>
    public BalancerTold(BalancerReport report, IReadOnlyDictionary<Guid, double>? uses)
    {
        foreach (var member in report.Members)
        {
            if (member is not null && member.ServerId != Guid.Empty)
                _members[member.ServerId] = member;
        }

        _uses = uses;
    }

    /// <summary>Requests open at a server; null where the balancer does not count them or does not have it.</summary>
    public int? OpenAt(Guid server) => _members.TryGetValue(server, out var member) && member is { CountsOpen: true, Open: >= 0 } ? member.Open : null;

    /// <summary>Share of its own processors that a server used; null where that was not measured.</summary>
    public double? ProcessorUseOf(Guid server) => _uses is not null && _uses.TryGetValue(server, out double use) && use >= 0 ? use : null;

    /// <summary>True where the balancer told of a server and nothing of it was negative, and its processors were measured where load comes from them.</summary>
    public bool Sampled(Guid server) =>
        _members.TryGetValue(server, out var member) && member is { Open: >= 0, Requests: >= 0, Errors: >= 0 } && (_uses is null || _uses.ContainsKey(server));
}
