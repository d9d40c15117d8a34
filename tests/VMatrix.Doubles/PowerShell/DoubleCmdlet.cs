using System;
using System.Collections.Generic;
using System.Linq;
using System.Management.Automation;
using System.Threading;

namespace Microsoft.HyperV.PowerShell
{
    /// <summary>What the module Hyper-V throws: it keeps .NET's own HRESULT for every error, and its code is in the localised text.</summary>
    public sealed class VirtualizationException(string message) : Exception(message);
}

namespace VMatrix.Doubles
{
    /// <summary>The command of the surface that a generated cmdlet stands for.</summary>
    [AttributeUsage(AttributeTargets.Class)]
    public sealed class StandsForAttribute(string command) : Attribute
    {
        public string Command { get; } = command;
    }

    /// <summary>What all generated cmdlets do: PowerShell has bound the parameters, the double carries out.</summary>
    public abstract class DoubleCmdlet : PSCmdlet, IDisposable
    {
        private static readonly Dictionary<string, DoubleWorld> s_worlds = [];
        private readonly CancellationTokenSource _stop = new();

        /// <inheritdoc/>
        public void Dispose()
        {
            _stop.Dispose();
            GC.SuppressFinalize(this);
        }

        /// <inheritdoc/>
        protected override void ProcessRecord()
        {
            var command = SurfaceBinder.Find(((StandsForAttribute)Attribute.GetCustomAttribute(GetType(), typeof(StandsForAttribute))!).Command);
            var values = new Dictionary<string, object?>(StringComparer.OrdinalIgnoreCase);
            foreach (var (name, value) in MyInvocation.BoundParameters)
            {
                if (command.Resolve(name) is { } parameter)
                    values[parameter] = Plain(value);
            }

            var set = command.Sets.FirstOrDefault(set => set.Name == ParameterSetName) ?? command.Sets[0];
            if (command.ShouldProcess && !ShouldProcess(string.Join(", ", values.Values.SelectMany(value => value is object[] many ? many : [value!]).Where(value => value is not bool))))
                return;
            var work = new CommandCall(World(), new BoundCommand(command, set, values), _stop.Token, Environment.GetEnvironmentVariable(DoubleWorld.Local));
            try
            {
                work.RunAsync().GetAwaiter().GetResult();
            }
            catch (DoubleError error)
            {
                Tell(work);
                ThrowTerminatingError(Record(command, error));
            }
            catch (NotDoubledException error)
            {
                ThrowTerminatingError(new ErrorRecord(error, "NotDoubled", ErrorCategory.NotImplemented, null));
            }
            catch (OperationCanceledException)
            {
                throw new PipelineStoppedException();
            }

            Tell(work);
            foreach (var error in work.Errors)
                WriteError(Record(command, error));
        }

        /// <inheritdoc/>
        protected override void StopProcessing() => _stop.Cancel();

        private static DoubleWorld World()
        {
            var folder = Environment.GetEnvironmentVariable(DoubleWorld.Variable) is { Length: > 0 } named ? named
                : throw new InvalidOperationException($"The environment variable {DoubleWorld.Variable} names no world: these modules are doubles, and there is no Hyper-V behind them.");
            lock (s_worlds)
                return s_worlds.TryGetValue(folder, out var known) ? known : s_worlds[folder] = new DoubleWorld(folder);
        }

        private static ErrorRecord Record(SurfaceCommand command, DoubleError error)
        {
            error.HResult = CommandCall.ResultOf(command, error);
            return new(
                command.Module == "Hyper-V" ? new Microsoft.HyperV.PowerShell.VirtualizationException(error.Message) : error,
                error.Id,
                Enum.TryParse<ErrorCategory>(error.Category, out var category) ? category : ErrorCategory.NotSpecified,
                error.Target);
        }

        private static object? Plain(object? value) => value switch
        {
            SwitchParameter given => given.IsPresent,
            PSObject wrapped => Plain(wrapped.BaseObject),
            object[] many => many.Select(Plain).ToArray(),
            _ => value,
        };

        private void Tell(CommandCall work)
        {
            foreach (var item in work.Output)
                WriteObject(item);
            work.Output.Clear();
        }
    }
}
