using System;
using System.Collections;
using System.Collections.Generic;
using System.Collections.Specialized;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Net;
using System.Reflection;
using System.Reflection.Emit;
using System.Security;
using System.Threading.Tasks;
using VMatrix.Scripts;

namespace VMatrix.Doubles;

/// <summary>
/// Writes the doubled modules as PowerShell loads them: an assembly for each, with a cmdlet for every command of its surface that has exactly its
/// parameter sets, positions, aliases, types and pipeline binding. To be called inside PowerShell, whose own attributes the cmdlets carry.
/// </summary>
public static class ModuleWriter
{
    // Exported names that are not those of the commands, where the command is on the surface.
    private static readonly Dictionary<string, string> s_aliases = new() { ["gvm"] = "Get-VM", ["savm"] = "Start-VM", ["spvm"] = "Stop-VM", ["gvmr"] = "Get-VMReplication", ["mvmr"] = "Measure-VMReplication" };

    private static readonly Dictionary<string, Type> s_known = new()
    {
        ["String"] = typeof(string), ["Boolean"] = typeof(bool), ["Byte"] = typeof(byte), ["Int16"] = typeof(short), ["Int32"] = typeof(int), ["Int64"] = typeof(long),
        ["UInt16"] = typeof(ushort), ["UInt32"] = typeof(uint), ["UInt64"] = typeof(ulong), ["Guid"] = typeof(Guid), ["Version"] = typeof(Version), ["TimeSpan"] = typeof(TimeSpan),
        ["DateTime"] = typeof(DateTime), ["IPAddress"] = typeof(IPAddress), ["Hashtable"] = typeof(Hashtable), ["SecureString"] = typeof(SecureString),
    };

    /// <summary>Makes sure that the modules stand in a folder, and returns it for <c>PSModulePath</c>. Outside PowerShell it starts one, once for each build of the doubles.</summary>
    public static async Task<string> EnsureAsync(string? folder = null)
    {
        folder ??= Path.Combine(AppContext.BaseDirectory, "modules");
        var stamp = Path.Combine(folder, "built-from");
        var id = typeof(ModuleWriter).Module.ModuleVersionId.ToString();
        Directory.CreateDirectory(folder);
        using var held = await HoldAsync(Path.Combine(folder, "lock"));
        if (File.Exists(stamp) && await File.ReadAllTextAsync(stamp) == id)
            return folder;
        if (AppDomain.CurrentDomain.GetAssemblies().Any(assembly => assembly.GetName().Name == "Microsoft.PowerShell.ConsoleHost"))
        {
            Write(folder);
            await File.WriteAllTextAsync(stamp, id);
            return folder;
        }

        var shell = PowerShellProgram.ForModules();
        var start = new ProcessStartInfo(shell.Path, shell.Arguments)
        {
            ArgumentList = { "-NoProfile", "-NonInteractive", "-Command", $"$ErrorActionPreference = 'Stop'; Add-Type -LiteralPath '{typeof(ModuleWriter).Assembly.Location}'; [VMatrix.Doubles.ModuleWriter]::Write('{folder}')" },
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        using var process = Process.Start(start)!;
        var output = Task.WhenAll(process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"The doubled modules could not be written: {string.Join('\n', await output)}");
        await File.WriteAllTextAsync(stamp, id);
        return folder;
    }

    /// <summary>Writes all modules below a folder.</summary>
    public static void Write(string folder)
    {
        foreach (var surface in Surface.All.Values)
        {
            var target = Path.Combine(folder, surface.Module);
            Directory.CreateDirectory(target);
            Replace(Path.Combine(target, surface.Module + ".dll"), path => WriteAssembly(surface, path));
            var own = typeof(ModuleWriter).Assembly.Location;
            Replace(Path.Combine(target, Path.GetFileName(own)), path => File.Copy(own, path));
            File.WriteAllText(Path.Combine(target, surface.Module + ".psd1"), $"""
                @{"{"}
                    RootModule = '{surface.Module}.dll'
                    ModuleVersion = '2.0.0.0'
                    GUID = '{new Guid(System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(surface.Module)).AsSpan(0, 16))}'
                    Description = 'A double for tests: there is no hypervisor behind it.'
                    FunctionsToExport = @()
                    CmdletsToExport = @({string.Join(", ", surface.Commands.Keys.Select(name => $"'{name}'"))})
                    AliasesToExport = @({string.Join(", ", surface.Commands.Keys.SelectMany(name => AliasesOf(surface, name)).Select(name => $"'{name}'"))})
                {"}"}
                """);
        }
    }

    // A process that has loaded the old file keeps it; one whose file is written over beneath it dies.
    private static void Replace(string path, Action<string> write)
    {
        var fresh = $"{path}.{Environment.ProcessId}";
        write(fresh);
        File.Move(fresh, path, overwrite: true);
    }

    private static async Task<FileStream> HoldAsync(string path)
    {
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException)
            {
                await Task.Delay(50);
            }
        }
    }

    private static IEnumerable<string> AliasesOf(Surface surface, string command) =>
        surface.Aliases.Where(alias => s_aliases.GetValueOrDefault(alias) == command || (alias.Contains("-VMCheckpoint", StringComparison.Ordinal) && alias.Replace("VMCheckpoint", "VMSnapshot", StringComparison.Ordinal) == command));

    private static void WriteAssembly(Surface surface, string path)
    {
        var assembly = new PersistedAssemblyBuilder(new AssemblyName(surface.Module) { Version = new Version(2, 0, 0, 0) }, typeof(object).Assembly);
        var module = assembly.DefineDynamicModule(surface.Module);
        var made = new Dictionary<string, Type>();
        foreach (var command in surface.Commands.Values)
            WriteCmdlet(surface, command, module, made);
        assembly.Save(path);
    }

    private static void WriteCmdlet(Surface surface, SurfaceCommand command, ModuleBuilder module, Dictionary<string, Type> made)
    {
        var names = command.Name.Split('-', 2);
        var type = module.DefineType(CommandCall.ClassOf(command), TypeAttributes.Public | TypeAttributes.Sealed, typeof(DoubleCmdlet));
        type.DefineDefaultConstructor(MethodAttributes.Public);
        type.SetCustomAttribute(Attribute(typeof(StandsForAttribute), [command.FullName]));
        type.SetCustomAttribute(Attribute(typeof(CmdletAttribute), [names[0], names[1]], command.Default is null
            ? new() { [nameof(CmdletAttribute.SupportsShouldProcess)] = command.ShouldProcess }
            : new() { [nameof(CmdletAttribute.SupportsShouldProcess)] = command.ShouldProcess, [nameof(CmdletAttribute.DefaultParameterSetName)] = command.Default }));
        if (AliasesOf(surface, command.Name).ToArray() is { Length: > 0 } others)
            type.SetCustomAttribute(Attribute(typeof(AliasAttribute), [others]));
        foreach (var (name, parameter) in command.Parameters)
        {
            if (command.ShouldProcess && name is "WhatIf" or "Confirm")
                continue;
            var property = Property(type, name, TypeOf(command.Module, parameter, module, made));
            foreach (var set in command.Sets)
            {
                if (!set.Parameters.TryGetValue(name, out var use))
                    continue;
                var values = new Dictionary<string, object>();
                if (set.Name != ParameterAttribute.AllParameterSets)
                    values[nameof(ParameterAttribute.ParameterSetName)] = set.Name;
                if (use.Mandatory)
                    values[nameof(ParameterAttribute.Mandatory)] = true;
                if (use.Position is { } position)
                    values[nameof(ParameterAttribute.Position)] = position;
                if (use.ByValue)
                    values[nameof(ParameterAttribute.ValueFromPipeline)] = true;
                if (use.ByName)
                    values[nameof(ParameterAttribute.ValueFromPipelineByPropertyName)] = true;
                property.SetCustomAttribute(Attribute(typeof(ParameterAttribute), [], values));
            }

            if (parameter.Aliases.Count > 0)
                property.SetCustomAttribute(Attribute(typeof(AliasAttribute), [parameter.Aliases.ToArray()]));
            if (parameter.Values.Count > 0 && parameter.ElementType == "String")
                property.SetCustomAttribute(Attribute(typeof(ValidateSetAttribute), [parameter.Values.ToArray()]));
        }

        type.CreateType();
    }

    private static PropertyBuilder Property(TypeBuilder type, string name, Type of)
    {
        var field = type.DefineField("_" + name, of, FieldAttributes.Private);
        const MethodAttributes Accessor = MethodAttributes.Public | MethodAttributes.SpecialName | MethodAttributes.HideBySig | MethodAttributes.NewSlot;
        var get = type.DefineMethod("get_" + name, Accessor, of, Type.EmptyTypes);
        var il = get.GetILGenerator();
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Ldfld, field);
        il.Emit(OpCodes.Ret);
        var set = type.DefineMethod("set_" + name, Accessor, typeof(void), [of]);
        il = set.GetILGenerator();
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Ldarg_1);
        il.Emit(OpCodes.Stfld, field);
        il.Emit(OpCodes.Ret);
        var property = type.DefineProperty(name, PropertyAttributes.None, of, null);
        property.SetGetMethod(get);
        property.SetSetMethod(set);
        return property;
    }

    private static Type TypeOf(string moduleName, SurfaceParameter parameter, ModuleBuilder module, Dictionary<string, Type> made)
    {
        if (parameter.Type == "StringCollection")
            return typeof(StringCollection);
        var element = ElementOf(moduleName, parameter, module, made);
        return parameter.Type.StartsWith("System.Collections.Generic.List", StringComparison.Ordinal) ? typeof(List<>).MakeGenericType(element)
            : parameter.IsArray ? element.MakeArrayType()
            : element;
    }

    private static Type ElementOf(string moduleName, SurfaceParameter parameter, ModuleBuilder module, Dictionary<string, Type> made)
    {
        var name = parameter.ElementType;
        if (s_known.TryGetValue(name, out var known))
            return known;
        if (name is "SwitchParameter")
            return typeof(SwitchParameter);
        if (name is "PSCredential")
            return typeof(PSCredential);
        if (name is "PSObject")
            return typeof(PSObject);
        if (DoubleTypes.Find(moduleName, name) is { } doubled)
            return doubled;
        if (made.TryGetValue(name, out var before))
            return before;

        // A class or an enumeration that the double does nothing with: it is there by name, and nothing converts to it by chance.
        var full = $"{DoubleTypes.NamespaceOf(moduleName)}.{name}";
        if (parameter.Values.Count == 0)
        {
            var empty = module.DefineType(full, TypeAttributes.Public);
            empty.DefineDefaultConstructor(MethodAttributes.Assembly);
            return made[name] = empty.CreateType();
        }

        var values = module.DefineEnum(full, TypeAttributes.Public, typeof(int));
        for (var i = 0; i < parameter.Values.Count; i++)
            values.DefineLiteral(parameter.Values[i], i);
        return made[name] = values.CreateType();
    }

    private static CustomAttributeBuilder Attribute(Type type, object[] arguments, Dictionary<string, object>? properties = null)
    {
        var constructor = type.GetConstructors().First(each => each.GetParameters() is var wanted && wanted.Length == arguments.Length && wanted.Zip(arguments).All(pair => pair.First.ParameterType.IsInstanceOfType(pair.Second)));
        properties ??= [];
        return new CustomAttributeBuilder(constructor, arguments, [.. properties.Keys.Select(name => type.GetProperty(name)!)], [.. properties.Values]);
    }
}
