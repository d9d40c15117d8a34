using System;
using System.Collections.Generic;
using System.Linq;
using VMatrix.Drivers;

namespace VMatrix.Moves;

/// <summary>When a step of a route is part of a move.</summary>
public enum StepWhen
{
    /// <summary>Always.</summary>
    Always,

    /// <summary>When the server leaves the balancer: it is in the Matrix.</summary>
    FromMatrix,

    /// <summary>When the server leaves the Matrix, and not only its host.</summary>
    LeavesMatrix,

    /// <summary>When the server is to take traffic: it goes to the Matrix.</summary>
    ToMatrix,

    /// <summary>When the server is in the Chamber or the Matrix.</summary>
    FromHost,

    /// <summary>When the server goes to the nest.</summary>
    ToNest,
}

/// <summary>What becomes of a move that is cut short in a step.</summary>
public enum WhenCut
{
    /// <summary>It is taken back.</summary>
    TakeBack,

    /// <summary>It is finished; taken back only if that fails.</summary>
    Finish,
}

/// <summary>The effects that routes are made of.</summary>
internal enum Act
{
    Image,
    Create,
    Fetch,
    Start,
    Check,
    Mark,
    Join,
    Drain,
    Settle,
    Leave,
    Save,
    Stow,
    Carry,
    Migrate,
    Stop,
    Discard,
    Recover,
    Erase,
    Publish,
    Select,
    Adopt,
    Release,

    // The ones below take back, each only as far as the truth says that there is something to take back.
    Unmake,
    Sleep,
    StowBack,
    FetchBack,
    CarryBack,
    MigrateBack,
    Restart,
    Recheck,
    Rejoin,
    Unmark,
    MarkNest,
    DiscardBack,
    Unselect,
}

/// <summary>One step of a route.</summary>
public sealed record MoveStep
{
    internal MoveStep(string name, Act act, string effect, WhenCut whenCut, StepWhen when, params Act[] back)
    {
        (Name, Act, Effect, WhenCut, When, Back) = (name, act, effect, whenCut, when, back);
        Compensation = [.. back.Select(MoveRoutes.Describe)];
    }

    /// <summary>The step's name, as journals and records show it.</summary>
    public string Name { get; }

    /// <summary>What it does, as a sentence.</summary>
    public string Effect { get; }

    /// <summary>What takes it back, in order; empty where there is nothing to take back.</summary>
    public IReadOnlyList<string> Compensation { get; }

    /// <summary>What becomes of a move that is cut short here.</summary>
    public WhenCut WhenCut { get; }

    /// <summary>Which moves have it.</summary>
    public StepWhen When { get; }

    internal Act Act { get; }

    internal Act[] Back { get; }
}

/// <summary>The steps of one kind of move, in order.</summary>
/// <param name="Name">The route's name, such as <c>relocate-live</c>.</param>
/// <param name="Kind">The kind of move.</param>
/// <param name="Steps">The steps.</param>
public sealed record MoveRoute(string Name, MoveKind Kind, IReadOnlyList<MoveStep> Steps)
{
    /// <summary>The steps that a move from one stage to another really has.</summary>
    public IReadOnlyList<MoveStep> For(Stage from, Stage to) =>
        [.. Steps.Where(s => s.When switch
        {
            StepWhen.FromMatrix => from is Stage.Matrix,
            StepWhen.LeavesMatrix => from is Stage.Matrix && to is not Stage.Matrix,
            StepWhen.ToMatrix => to is Stage.Matrix,
            StepWhen.FromHost => from is Stage.Chamber or Stage.Matrix,
            StepWhen.ToNest => to is Stage.Nest,
            _ => true,
        })];
}

/// <summary>The steps and compensations of every kind of move. There is no other list of them: the mover, the docs and the tests all use this one.</summary>
public static class MoveRoutes
{
    private static readonly MoveStep s_drain = new("drain", Act.Drain, "The balancer sends it no new requests.", WhenCut.TakeBack, StepWhen.FromMatrix, Act.Rejoin);
    private static readonly MoveStep s_settle = new("settle", Act.Settle, "Waits until its open requests have ended, or the drain deadline has passed.", WhenCut.TakeBack, StepWhen.FromMatrix);
    private static readonly MoveStep s_leave = new("leave", Act.Leave, "The balancer forgets it.", WhenCut.TakeBack, StepWhen.FromMatrix);
    private static readonly MoveStep s_start = new("start", Act.Start, "The target host wakes it, or boots it where no memory was kept.", WhenCut.TakeBack, StepWhen.Always, Act.Sleep);
    private static readonly MoveStep s_check = new("check", Act.Check, "Waits until its health check has passed, at most the service's start timeout.", WhenCut.TakeBack, StepWhen.Always);
    private static readonly MoveStep s_mark = new("mark", Act.Mark, "Its mark takes the new stage and generation.", WhenCut.Finish, StepWhen.Always, Act.Unmark);
    private static readonly MoveStep s_join = new("join", Act.Join, "The balancer sends it requests.", WhenCut.Finish, StepWhen.ToMatrix, Act.Leave);

    /// <summary>Makes a dormant server.</summary>
    public static MoveRoute Create { get; } = new("create", MoveKind.Create,
    [
        new("image", Act.Image, "The service's image stands in the nest.", WhenCut.TakeBack, StepWhen.Always),
        new("create", Act.Create, "A dormant server is made from it, with its mark.", WhenCut.Finish, StepWhen.Always, Act.Unmake),
    ]);

    /// <summary>Nest to Chamber or Matrix.</summary>
    public static MoveRoute Wake { get; } = new("wake", MoveKind.Wake,
    [
        new("fetch", Act.Fetch, "Its files go from the nest to the host.", WhenCut.TakeBack, StepWhen.Always, Act.StowBack),
        s_start, s_check, s_mark, s_join,
    ]);

    /// <summary>Chamber or Matrix to Nest.</summary>
    public static MoveRoute Hibernate { get; } = new("hibernate", MoveKind.Hibernate,
    [
        s_drain, s_settle, s_leave,
        new("save", Act.Save, "Its memory goes to a file that is proven whole, then its machine is gone.", WhenCut.Finish, StepWhen.Always, Act.Restart, Act.Recheck),
        new("stow", Act.Stow, "Its files go to the nest.", WhenCut.Finish, StepWhen.Always, Act.FetchBack),
        s_mark,
    ]);

    /// <summary>To another host, the other running stage, or both: it sleeps while its files are carried.</summary>
    public static MoveRoute Relocate { get; } = new("relocate", MoveKind.Relocate,
    [
        s_drain, s_settle, s_leave,
        new("save", Act.Save, "Its memory goes to a file that is proven whole, then its machine is gone.", WhenCut.TakeBack, StepWhen.Always, Act.Restart, Act.Recheck),
        new("carry", Act.Carry, "Its files go to the target host.", WhenCut.Finish, StepWhen.Always, Act.CarryBack),
        new("start", Act.Start, "The target host wakes it.", WhenCut.Finish, StepWhen.Always, Act.Sleep),
        new("check", Act.Check, "Waits until its health check has passed, at most the service's start timeout.", WhenCut.Finish, StepWhen.Always),
        s_mark, s_join,
    ]);

    /// <summary>To another host without stopping, where the driver can.</summary>
    public static MoveRoute RelocateLive { get; } = new("relocate-live", MoveKind.Relocate,
    [
        new("drain", Act.Drain, s_drain.Effect, WhenCut.TakeBack, StepWhen.LeavesMatrix, Act.Rejoin),
        new("settle", Act.Settle, s_settle.Effect, WhenCut.TakeBack, StepWhen.LeavesMatrix),
        new("leave", Act.Leave, s_leave.Effect, WhenCut.TakeBack, StepWhen.LeavesMatrix),
        new("migrate", Act.Migrate, "The running machine goes to the target host.", WhenCut.Finish, StepWhen.Always, Act.MigrateBack, Act.Restart, Act.Recheck, Act.Rejoin),
        new("check", Act.Check, "Waits until its health check has passed, at most the service's start timeout.", WhenCut.Finish, StepWhen.Always),
        s_mark,
        new("join", Act.Join, "The balancer sends requests to its new address.", WhenCut.Finish, StepWhen.ToMatrix),
    ]);

    /// <summary>Restart elsewhere of a server whose host is proven dead, where other hosts reach its disk. Taken back, it sleeps in the nest: where it was is gone.</summary>
    public static MoveRoute Restart { get; } = new("restart", MoveKind.Relocate,
    [
        s_leave,
        new("carry", Act.Carry, "The target host takes its files over, after the proof that it runs nowhere.", WhenCut.Finish, StepWhen.Always, Act.StowBack, Act.MarkNest),
        new("start", Act.Start, "The target host boots it.", WhenCut.Finish, StepWhen.Always, Act.Sleep),
        new("check", Act.Check, "Waits until its health check has passed, at most the service's start timeout.", WhenCut.Finish, StepWhen.Always),
        new("mark", Act.Mark, s_mark.Effect, WhenCut.Finish, StepWhen.Always),
        s_join,
    ]);

    /// <summary>Puts a healthy server of the Matrix back into the balancer that lost it.</summary>
    public static MoveRoute Rejoin { get; } = new("rejoin", MoveKind.Relocate, [s_check, s_join]);

    /// <summary>Puts right a server whose place and mark do not agree and that no journal tells of: it comes to rest where it is marked, in the nest or the disposed area.</summary>
    public static MoveRoute Mend { get; } = new("mend", MoveKind.Hibernate,
    [
        new("leave", Act.Leave, s_leave.Effect, WhenCut.Finish, StepWhen.Always),
        new("save", Act.Save, "If it runs, its memory goes to a file that is proven whole.", WhenCut.Finish, StepWhen.Always),
        new("stow", Act.Stow, "If it is on a host, its files go to the nest.", WhenCut.Finish, StepWhen.Always),
        new("mark", Act.Mark, "Its mark says where it is.", WhenCut.Finish, StepWhen.Always),
    ]);

    /// <summary>Takes a server out of use.</summary>
    public static MoveRoute Dispose { get; } = new("dispose", MoveKind.Dispose,
    [
        s_drain, s_settle, s_leave,
        new("stop", Act.Stop, "Its machine is powered off.", WhenCut.Finish, StepWhen.FromHost),
        new("discard", Act.Discard, "Its files go to the disposed area.", WhenCut.Finish, StepWhen.Always),
        new("mark", Act.Mark, s_mark.Effect, WhenCut.Finish, StepWhen.Always),
    ]);

    /// <summary>Disposed to Nest.</summary>
    public static MoveRoute Undo { get; } = new("undo", MoveKind.Undo,
    [
        new("recover", Act.Recover, "Its files go from the disposed area to the nest.", WhenCut.Finish, StepWhen.Always, Act.DiscardBack),
        s_mark,
    ]);

    /// <summary>Deletes a disposed server.</summary>
    public static MoveRoute Purge { get; } = new("purge", MoveKind.Purge,
    [
        new("erase", Act.Erase, "Its files are deleted.", WhenCut.Finish, StepWhen.Always),
    ]);

    /// <summary>A new image version from a server in the Chamber, which stays as it is.</summary>
    public static MoveRoute Publish { get; } = new("publish", MoveKind.Publish,
    [
        new("publish", Act.Publish, "A new image version is made from its disk as it is at this moment, whole or not at all.", WhenCut.TakeBack, StepWhen.Always),
        new("select", Act.Select, "New servers of its service are made from that version.", WhenCut.Finish, StepWhen.Always, Act.Unselect),
    ]);

    /// <summary>A machine that was not ours becomes a server. One that runs stays on its host and runs on; a dormant one goes to the nest.</summary>
    public static MoveRoute Register { get; } = new("register", MoveKind.Register,
    [
        new("adopt", Act.Adopt, "The machine gets a mark.", WhenCut.TakeBack, StepWhen.Always, Act.Release),
        new("check", Act.Check, "Waits until its health check has passed, at most the service's start timeout.", WhenCut.TakeBack, StepWhen.ToMatrix),
        s_join,
        new("stow", Act.Stow, "Its files go to the nest.", WhenCut.Finish, StepWhen.ToNest, Act.FetchBack),
    ]);

    /// <summary>A server becomes a machine that is not ours, where it is and as it is.</summary>
    public static MoveRoute Unregister { get; } = new("unregister", MoveKind.Unregister,
    [
        s_drain, s_settle, s_leave,
        new("release", Act.Release, "The machine loses its mark.", WhenCut.Finish, StepWhen.Always),
    ]);

    /// <summary>Every route.</summary>
    public static IReadOnlyList<MoveRoute> All { get; } = [Create, Wake, Hibernate, Relocate, RelocateLive, Restart, Rejoin, Mend, Dispose, Undo, Purge, Publish, Register, Unregister];

    /// <summary>The names of every point at which a process can be made to die while it carries a move out: see <see cref="Failpoint"/>. A restart elsewhere is claimed as a relocate, a mending as a hibernate or a dispose.</summary>
    public static IReadOnlyList<string> Failpoints { get; } =
        [.. All.SelectMany(r => r.Steps.SelectMany(s => new[] { $"{r.Name}.{s.Name}.before", $"{r.Name}.{s.Name}.after" }).Prepend($"{r.Name}.claimed").Append($"{r.Name}.ending")).Where(p => p is not ("restart.claimed" or "mend.claimed"))];

    /// <summary>The names of every such point while a move is taken back.</summary>
    public static IReadOnlyList<string> BackFailpoints { get; } =
        [.. All.SelectMany(r => r.Steps.SelectMany(s => s.Back).Distinct().SelectMany(a => new[] { BackPoint(r, a) + ".before", BackPoint(r, a) + ".after" }))];

    internal static string BackPoint(MoveRoute route, Act act) => $"{route.Name}.back.{Name(act)}";

    internal static MoveRoute ByName(string name) =>
        All.FirstOrDefault(r => r.Name == name) ?? throw new VMatrixException("StateCorrupt", VMatrixErrorKind.Corrupt, $"No kind of move has the route '{name}'. The journal was written by a newer VMatrix, or is damaged.");

    internal static MoveRoute For(Move move, HypervisorTraits traits) => move.Kind switch
    {
        MoveKind.Create => Create,
        MoveKind.Wake => Wake,
        MoveKind.Hibernate => Hibernate,
        MoveKind.Relocate when move.FromHost == move.ToHost && move.FromStage == move.ToStage => Rejoin,
        MoveKind.Relocate when move.Live && traits.LiveMigration => RelocateLive,
        MoveKind.Relocate => Relocate,
        MoveKind.Dispose => Dispose,
        MoveKind.Undo => Undo,
        MoveKind.Purge => Purge,
        MoveKind.Publish => Publish,
        MoveKind.Register => Register,
        MoveKind.Unregister => Unregister,
        _ => throw new ArgumentOutOfRangeException(nameof(move)),
    };

    internal static string Name(Act act) => act.ToString().ToLowerInvariant();

    internal static string Describe(Act act) => act switch
    {
        Act.Unmake => "unmake: what was made is discarded and erased",
        Act.Sleep => "sleep: the machine is saved; powered off only if it cannot be saved and kept no memory or hangs",
        Act.StowBack => "stow back to the nest",
        Act.FetchBack => "fetch back to the host it came from",
        Act.CarryBack => "carry back to the host it came from",
        Act.MigrateBack => "migrate back to the host it came from",
        Act.Restart => "start again on the host it came from",
        Act.Recheck => "check its health there",
        Act.Rejoin => "join again, when its health check passes",
        Act.Unmark => "mark as it was before",
        Act.MarkNest => "mark as in the nest",
        Act.DiscardBack => "discard again",
        Act.Release => "release: its mark is taken off again",
        Act.Unselect => "select the version that was in use before",
        _ => Name(act),
    };
}
