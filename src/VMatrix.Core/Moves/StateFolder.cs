using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.IO.Compression;
using System.Linq;
using System.Security.Cryptography;
using System.Text.Json;
using System.Threading;
using VMatrix.Files;
using VMatrix.Planning;

namespace VMatrix.Moves;

/// <summary>
/// The pool's state folder: its random id, the decider's lock and epoch, open moves and claims (one small flushed file each), overrides, plans.
/// Who is alive is told by locks that the operating system ends with a process, never by what a file says.
/// </summary>
public sealed partial class StateFolder : IDisposable
{
    private readonly string _identity;
    private readonly string _claimsLock;
    private readonly string? _nest;
    private readonly object _gate = new();
    private readonly HashSet<Guid> _running = [];
    private FileStream? _ownerLock;
    private Guid _owner;
    private Decider? _decider;
    private History? _history;
    private bool _disposed;

    private StateFolder(string path, string? nest, bool mayWrite)
    {
        Path = path;
        _nest = nest;
        MayWrite = mayWrite;
        _identity = System.IO.Path.Combine(path, "state.json");
        _claimsLock = System.IO.Path.Combine(path, "claims.lock");
        Overrides = new Overrides(System.IO.Path.Combine(path, "overrides"), path);
    }

    /// <summary>Opens the folder; makes it, with a new random id, where it is missing and <paramref name="create"/> is true. With <paramref name="create"/> false nothing is written.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="create">True to make it, and to write in it.</param>
    /// <param name="nest">The pool's nest, where a decider holds a second lock against one that has another state folder; null for none.</param>
    /// <param name="cancellation">Ends the wait for another process that is claiming something there.</param>
    /// <exception cref="VMatrixException"><c>StateReadOnly</c>, <c>StateFull</c>, <c>StateCorrupt</c>, <c>StateMissing</c>, <c>StateNoLocks</c>, <c>StateBusy</c>, <c>FolderNotOwned</c>.</exception>
    public static StateFolder Open(string path, bool create, string? nest = null, CancellationToken cancellation = default)
    {
        path = System.IO.Path.GetFullPath(path);
        var state = new StateFolder(path, nest, create);
        return Guard(path, () =>
        {
            if (create)
            {
                OwnFolder.Check(path);
                foreach (var folder in new[] { path, state.MovesFolder, state.OwnersFolder })
                    OwnFiles.CreateFolder(folder);
                using var claims = state.LockClaims(cancellation);
                if (StateFiles.TryLock(state._claimsLock) is { } second)
                {
                    second.Dispose();
                    throw new VMatrixException("StateNoLocks", VMatrixErrorKind.NotSupported, $"File locks do not work in the state folder {path}, so nothing there keeps two controllers apart. Name a folder on another file system as 'state' in the pool file.");
                }
                if (!File.Exists(state._identity))
                    StateFiles.Replace(state._identity, StateFiles.ToBytes(new Identity { Id = Guid.NewGuid() }));
            }
            var identity = ReadIdentity(state._identity)
                ?? throw new VMatrixException("StateMissing", VMatrixErrorKind.NotFound, $"There is no pool state in {path}: the pool was never used, or its state folder is elsewhere.");
            state.Id = identity.Id;
            return state;
        });
    }

    private static Identity? ReadIdentity(string path)
    {
        Exception? why = null;
        try
        {
            var identity = StateFiles.TryReadJson<Identity>(path);
            if (identity is null || identity.Id != Guid.Empty)
                return identity;
        }
        catch (VMatrixException e)
        {
            why = e.InnerException;
        }

        throw new VMatrixException("StateCorrupt", VMatrixErrorKind.Corrupt,
            $"The state file {path} cannot be read: {why?.Message ?? "it is damaged"}. It holds the id that the pool's servers are marked with: restore it from a backup. Without one, delete it and take the servers over: Get-VMatrixServer -Foreign | Register-VMatrixServer -Force.", why);
    }

    /// <summary>Full path of the folder.</summary>
    public string Path { get; }

    /// <summary>False for a session that only reads: nothing is written in the folder.</summary>
    internal bool MayWrite { get; }

    /// <summary>The random id, carried by every mark.</summary>
    public Guid Id { get; private set; }

    /// <summary>What operators changed at run time.</summary>
    public Overrides Overrides { get; }

    /// <summary>Ended moves and load samples. Opened at the first use; losing it loses nothing else.</summary>
    public History History
    {
        get
        {
            lock (_gate)
                return _history ??= History.Open(History.PathFor(Path, Id, MayWrite), readOnly: !MayWrite);
        }
    }

    /// <summary>Who acts, as <c>name (process N of USER on MACHINE)</c>; a user who acts by their own name, as <c>USER (process N on MACHINE)</c>.</summary>
    public static string Describe(string name)
    {
        using var self = Process.GetCurrentProcess();
        string user = name == Environment.UserName ? "" : $" of {Environment.UserName}";
        return string.Format(CultureInfo.InvariantCulture, "{0} (process {1}{2} on {3})", name, self.Id, user, Environment.MachineName);
    }

    /// <summary>Takes the decider's lock and a new epoch. Dispose the result to let go.</summary>
    /// <param name="name">What the decider calls itself, such as <c>vmatrix-oracle</c>.</param>
    /// <param name="cancellation">Ends the wait for another process that is claiming something.</param>
    /// <exception cref="VMatrixException"><c>DeciderBusy</c>, naming the name, process and machine of the one at work.</exception>
    public Decider Decide(string name, CancellationToken cancellation = default) => Guard(() =>
    {
        var decider = Decider.Take(Path, _nest, Describe(name), LockClaims, cancellation);
        lock (_gate)
            _decider = decider;
        return decider;
    });

    /// <summary>The decider at work, as <c>name (process N of USER on MACHINE)</c>; null when there is none.</summary>
    public string? ReadDecider() => Guard(() => Decider.Read(Path) ?? (_nest is null ? null : Decider.Read(_nest)));

    /// <summary>Throws <c>DeciderLost</c> unless this folder's decider still holds its lock under that epoch. Epoch 0, a move by hand, needs none.</summary>
    internal void CheckEpoch(long epoch)
    {
        if (epoch == 0)
            return;
        Decider? decider;
        lock (_gate)
            decider = _decider;
        if (decider?.Epoch != epoch)
            throw Decider.Lost(Path, Decider.Read(Path));
        decider.Check();
    }

    /// <summary>Ends the decider of this folder, as a driver has refused its epoch.</summary>
    internal void EndDecider(VMatrixException refused)
    {
        lock (_gate)
            _decider?.End(refused);
    }

    /// <summary>The open moves. Those whose owner works on them are <see cref="MoveStatus.Running"/>, others <see cref="MoveStatus.Interrupted"/> or <see cref="MoveStatus.Failed"/>.</summary>
    public IReadOnlyList<MoveRecord> ReadOpenMoves() => Guard(() => ReadOpen(out _)
        .Select(m => m.ToRecord(!IsFree(m) ? MoveStatus.Running : m.Stuck ? MoveStatus.Failed : MoveStatus.Interrupted))
        .ToArray());

    /// <summary>What is damaged or left over in the folder, as sentences that name the file.</summary>
    public IReadOnlyList<string> ReadProblems() => Guard(() =>
    {
        _ = ReadOpen(out var journals);
        _ = ReadHostClaims(out var claims);
        return (IReadOnlyList<string>)[.. journals, .. claims, .. Overrides.ReadProblems()];
    });

    /// <summary>Servers whose journal is damaged, with what is wrong with it: no move of them begins until it is put right.</summary>
    internal IReadOnlyDictionary<Guid, string> ReadDamagedJournals() => Guard(() =>
    {
        var damaged = new Dictionary<Guid, string>();
        foreach (var path in Directory.Exists(MovesFolder) ? Directory.GetFiles(MovesFolder, "*.json") : [])
        {
            try
            {
                _ = OpenMove.TryRead(this, path);
            }
            catch (VMatrixException e)
            {
                if (Guid.TryParse(System.IO.Path.GetFileNameWithoutExtension(path), out var server))
                    damaged[server] = e.Message;
            }
        }

        return damaged;
    });

    /// <summary>Stores a plan and stamps its hash.</summary>
    public Plan StorePlan(Plan plan) => Guard(() =>
    {
        var bytes = StateFiles.ToBytes(plan with { Hash = null });
        var hash = Hash(bytes);
        OwnFiles.CreateFolder(PlansFolder);
        StateFiles.Replace(System.IO.Path.Combine(PlansFolder, $"{plan.Id:D}.{hash}.json"), bytes);
        return plan with { Hash = hash };
    });

    /// <summary>Loads a plan and checks its hash.</summary>
    /// <exception cref="VMatrixException"><c>PlanNotFound</c>, <c>PlanCorrupt</c>.</exception>
    public Plan LoadPlan(Guid id) => Guard(() =>
    {
        var files = Directory.Exists(PlansFolder) ? Directory.GetFiles(PlansFolder, $"{id:D}.*.json") : [];
        if (files.Length == 0 || StateFiles.TryRead(files[0]) is not { } bytes)
            throw new VMatrixException("PlanNotFound", VMatrixErrorKind.NotFound, $"There is no plan {id} in {PlansFolder}. It was trimmed, or was made for another pool. Make a new one.");
        VMatrixException Corrupt(Exception? e = null) => new("PlanCorrupt", VMatrixErrorKind.Corrupt, $"The stored plan {files[0]} is not what was stored. Make a new one.", e);
        var hash = Hash(bytes);
        if (files.Length > 1 || !string.Equals(System.IO.Path.GetFileName(files[0]), $"{id:D}.{hash}.json", StringComparison.OrdinalIgnoreCase))
            throw Corrupt();
        try
        {
            var plan = JsonSerializer.Deserialize<Plan>(bytes, StateFiles.Json);
            return plan is not null && plan.Id == id ? plan with { Hash = hash } : throw Corrupt();
        }
        catch (JsonException e)
        {
            throw Corrupt(e);
        }
    });

    /// <summary>The ids of the stored plans, newest first.</summary>
    public IReadOnlyList<Guid> ReadPlans() => Guard(() => Directory.Exists(PlansFolder)
        ? new DirectoryInfo(PlansFolder).GetFiles("*.json").OrderByDescending(f => f.LastWriteTimeUtc).ThenBy(f => f.Name, StringComparer.Ordinal)
            .Select(f => Guid.TryParse(f.Name.Split('.')[0], out var id) ? id : Guid.Empty).Where(id => id != Guid.Empty).ToArray()
        : (IReadOnlyList<Guid>)[]);

    /// <summary>Keeps what a stored plan was made from, so that it can be explained. Losing it loses the explanation only.</summary>
    public void StoreInput(Guid plan, PlannerInput input) => Guard(() =>
    {
        OwnFiles.CreateFolder(PlansFolder);
        using var packed = new MemoryStream();
        using (var zip = new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true))
            JsonSerializer.Serialize(zip, input, StateFiles.Json);
        StateFiles.Rename(StateFiles.WriteTemporary(InputPath(plan), packed.ToArray(), flush: false), InputPath(plan));
        return true;
    });

    /// <summary>True when what a plan was made from is kept.</summary>
    public bool HasInput(Guid plan) => File.Exists(InputPath(plan));

    /// <summary>What a stored plan was made from: 256 MiB of JSON at most.</summary>
    /// <exception cref="VMatrixException"><c>PlanInputMissing</c>, <c>PlanCorrupt</c>.</exception>
    public PlannerInput LoadInput(Guid plan) => Guard(() =>
    {
        var packed = StateFiles.TryRead(InputPath(plan))
            ?? throw new VMatrixException("PlanInputMissing", VMatrixErrorKind.NotFound, $"What plan {plan} was made from was not kept, so it cannot be explained. Make a new one with New-VMatrixPlan.");
        try
        {
            using var zip = new BoundedStream(new GZipStream(new MemoryStream(packed), CompressionMode.Decompress), MostInput, "It");
            return JsonSerializer.Deserialize<PlannerInput>(zip, StateFiles.Reading) ?? throw new JsonException("It holds null.");
        }
        catch (Exception e) when (e is JsonException or InvalidDataException or NotSupportedException or InvalidOperationException or ArgumentException)
        {
            throw new VMatrixException("PlanCorrupt", VMatrixErrorKind.Corrupt, $"What plan {plan} was made from cannot be read from {InputPath(plan)}: {e.Message} Make a new one with New-VMatrixPlan.", e);
        }
    });

    /// <summary>What became of a stored plan; null when nobody wrote it down.</summary>
    public PlanProgress? ReadProgress(Guid plan) => Guard(() => StateFiles.TryReadJson<PlanProgress>(ProgressPath(plan)));

    /// <summary>Writes down what became of a stored plan.</summary>
    public void WriteProgress(PlanProgress progress) => Guard(() =>
    {
        OwnFiles.CreateFolder(PlansFolder);
        StateFiles.Replace(ProgressPath(progress.PlanId), StateFiles.ToBytes(progress));
        return true;
    });

    /// <summary>What is kept of services that the Oracle only shadows; empty when there is nothing, or when it cannot be read: scoring then begins anew.</summary>
    public IReadOnlyList<ShadowTally> ReadShadow() => Guard<IReadOnlyList<ShadowTally>>(() =>
    {
        try
        {
            return StateFiles.TryReadJson<ShadowTally[]>(ShadowPath) ?? [];
        }
        catch (VMatrixException)
        {
            return [];
        }
    });

    /// <summary>Keeps the scores of shadowed services.</summary>
    public void WriteShadow(IReadOnlyList<ShadowTally> scores) => Guard(() =>
    {
        StateFiles.Rename(StateFiles.WriteTemporary(ShadowPath, StateFiles.ToBytes(scores), flush: false), ShadowPath);
        return true;
    });

    /// <summary>What the planner kept from the plan before; null when there is none, or when it cannot be read: planning then begins anew.</summary>
    public PlannerMemory? ReadMemory() => Guard(() =>
    {
        try
        {
            return StateFiles.TryReadJson<PlannerMemory>(MemoryPath);
        }
        catch (VMatrixException)
        {
            return null;
        }
    });

    /// <summary>Keeps what the planner wants to find next time.</summary>
    public void WriteMemory(PlannerMemory memory) => Guard(() =>
    {
        StateFiles.Rename(StateFiles.WriteTemporary(MemoryPath, StateFiles.ToBytes(memory), flush: false), MemoryPath);
        return true;
    });

    /// <summary>Deletes plans that were stored before a moment, at most a tenth at a time, for the clock that says so may be wrong; and all but the newest so many. What belongs to them goes with them.</summary>
    public void TrimPlans(DateTimeOffset before, int most = int.MaxValue) => Guard(() =>
    {
        if (!Directory.Exists(PlansFolder))
            return true;
        var stored = new DirectoryInfo(PlansFolder).GetFiles("*.json").OrderByDescending(f => f.LastWriteTimeUtc).ToArray();
        for (int i = stored.Length - 1, old = stored.Length / 10 + 1; i >= 0; i--)
        {
            if (i < most && (stored[i].LastWriteTimeUtc >= before.UtcDateTime || old-- <= 0))
                continue;
            StateFiles.TryDelete(stored[i].FullName);
            if (Guid.TryParse(stored[i].Name.Split('.')[0], out var id))
            {
                StateFiles.TryDelete(InputPath(id));
                StateFiles.TryDelete(ProgressPath(id));
            }
        }
        return true;
    });

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_disposed)
                return;
            _disposed = true;
        }
        _decider?.Dispose();
        _history?.Dispose();
        if (_ownerLock is null)
            return;
        try
        {
            using (LockClaims())
            {
                _ownerLock.Dispose();
                if (!ReadOpen(out _).Any(m => m.Owner == _owner))
                    File.Delete(OwnerPath(_owner));
            }
        }
        catch (Exception e) when (StateFiles.IsFileError(e) || e is VMatrixException)
        {
            // The folder went away: the lock ends all the same, and recovery clears up.
            _ownerLock.Dispose();
        }
    }

    internal string MovesFolder => System.IO.Path.Combine(Path, "moves");

    internal string OwnersFolder => System.IO.Path.Combine(Path, "owners");

    private string MemoryPath => System.IO.Path.Combine(Path, "memory.json");

    private string ShadowPath => System.IO.Path.Combine(Path, "shadow.json");

    private const long MostInput = 256 << 20;

    private string InputPath(Guid plan) => System.IO.Path.Combine(PlansFolder, $"{plan:D}.input.gz");

    private string ProgressPath(Guid plan) => System.IO.Path.Combine(PlansFolder, $"{plan:D}.progress");

    internal string PlansFolder => System.IO.Path.Combine(Path, "plans");

    internal string MovePath(Guid server) => System.IO.Path.Combine(MovesFolder, server.ToString("D") + ".json");

    internal string OwnerPath(Guid owner) => System.IO.Path.Combine(OwnersFolder, owner.ToString("D") + ".lock");

    internal void SyncMoves() => StateFiles.SyncFolder(MovesFolder);

    /// <summary>The lock that keeps claims, take-overs and clearing up apart. Held for an instant only.</summary>
    /// <param name="cancellation">Ends the wait for another who holds it.</param>
    internal FileStream LockClaims(CancellationToken cancellation = default)
    {
        for (var tries = 0; ; tries++)
        {
            if (StateFiles.TryLock(_claimsLock) is { } held)
                return held;
            if (tries == 2000)
                throw new VMatrixException("StateBusy", VMatrixErrorKind.Busy, $"The lock {_claimsLock} has been held by another process for 10 seconds, which no sound one does. Find that process and end it.") { IsTransient = true };
            if (cancellation.WaitHandle.WaitOne(5))
                cancellation.ThrowIfCancellationRequested();
        }
    }

    /// <summary>This process's id as an owner of moves: alive as long as its lock file is locked.</summary>
    internal Guid EnsureOwner(CancellationToken cancellation = default)
    {
        lock (_gate)
        {
            if (_disposed)
                throw new InvalidOperationException("The state folder is closed.");
            if (_ownerLock is not null)
                return _owner;
            using (LockClaims(cancellation))
            {
                var owner = Guid.NewGuid();
                _ownerLock = StateFiles.TryLock(OwnerPath(owner), FileMode.CreateNew) ?? throw new InvalidOperationException("A new file is locked.");
                _owner = owner;
            }
            return _owner;
        }
    }

    /// <summary>True when nobody is working on an open move.</summary>
    internal bool IsFree(OpenMove move)
    {
        lock (_gate)
        {
            if (_running.Contains(move.Move.Id))
                return false;
            return move.Released || move.Owner == _owner || !StateFiles.IsLocked(OwnerPath(move.Owner));
        }
    }

    /// <summary>Says that this process is working on a move, or no longer.</summary>
    internal void SetRunning(Guid move, bool running)
    {
        lock (_gate)
        {
            if (running)
                _running.Add(move);
            else
                _running.Remove(move);
        }
    }

    /// <summary>All open moves, whoever owns them; damaged files are told in <paramref name="problems"/>.</summary>
    internal IReadOnlyList<OpenMove> ReadOpen(out IReadOnlyList<string> problems)
    {
        var open = new List<OpenMove>();
        var bad = new List<string>();
        problems = bad;
        if (!Directory.Exists(MovesFolder))
            return open;
        foreach (var path in Directory.EnumerateFiles(MovesFolder, "*.json").OrderBy(p => p, StringComparer.Ordinal))
        {
            try
            {
                if (OpenMove.TryRead(this, path) is { } move)
                    open.Add(move);
            }
            catch (VMatrixException e)
            {
                bad.Add(e.Message);
            }
        }
        return open;
    }

    /// <summary>Deletes what dead processes left: lock files of owners without moves, temporary files, claims that never began.</summary>
    internal void ClearLeftovers(CancellationToken cancellation)
    {
        using (LockClaims(cancellation))
        {
            var owners = new HashSet<Guid>(ReadOpen(out _).Select(m => m.Owner));
            foreach (var path in Directory.EnumerateFiles(OwnersFolder, "*.lock"))
                if (Guid.TryParse(System.IO.Path.GetFileNameWithoutExtension(path), out var owner) && owner != _owner && !owners.Contains(owner) && !StateFiles.IsLocked(path))
                    StateFiles.TryDelete(path);
            foreach (var path in Directory.EnumerateFiles(MovesFolder, "*.json"))
                if (new FileInfo(path).Length < 4096 && IsTorn(path))
                    StateFiles.TryDelete(path);

            // A temporary file lives for milliseconds; one of the last minute may be somebody's at work.
            foreach (var path in Directory.EnumerateFiles(Path, "*.tmp", SearchOption.AllDirectories))
                if (File.GetLastWriteTimeUtc(path) < DateTime.UtcNow.AddMinutes(-1))
                    StateFiles.TryDelete(path);
        }
    }

    private bool IsTorn(string path)
    {
        try
        {
            return OpenMove.TryRead(this, path) is null;
        }
        catch (VMatrixException)
        {
            return false;
        }
    }

    internal T Guard<T>(Func<T> action) => Guard(Path, action);

    internal static T Guard<T>(string folder, Func<T> action)
    {
        try
        {
            return action();
        }
        catch (Exception e) when (StateFiles.IsFileError(e))
        {
            throw StateFiles.Translate(folder, e);
        }
    }

    /// <summary>The hash that a plan would be stored under.</summary>
    internal static string HashOf(Plan plan) => Hash(StateFiles.ToBytes(plan with { Hash = null }));

    private static string Hash(byte[] bytes)
    {
#if NET
        return Convert.ToHexString(SHA256.HashData(bytes));
#else
        using var sha = SHA256.Create();
        return BitConverter.ToString(sha.ComputeHash(bytes)).Replace("-", "");
#endif
    }

    private sealed record Identity
    {
        public Guid Id { get; init; }
    }
}
