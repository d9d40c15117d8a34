<#
.SYNOPSIS
Reports what VMatrix assumes of Hyper-V and does not find on your hosts.
.DESCRIPTION
VMatrix's Hyper-V driver was written from the published command reference and tried on doubles; no part of it was ever run on Windows.
This script is what proves it there. It asks, on each host, for everything that the driver takes for granted: commands and their
parameter sets, properties and their types, words of enumerations, ids of errors, rights, and the settings that moves between hosts need.

By itself it only reads, and changes nothing anywhere. With -AllowChange it makes, on each host, one virtual machine of its own that has
no disk and no network, tries on it what reading cannot show (notes that come back as they were written, saving and waking, export and
import, metering), and removes it again, also when something fails. With -NestFolder besides it makes a second one, with an empty disk in a
folder of its own there, and lets it sleep in the nest's share and wake from it. No other machine is ever touched.

Run it as the account that VMatrix will run as, from the machine that it will run on.
.EXAMPLE
./Test-HyperVAssumption.ps1 -ComputerName hv1, hv2
Shows the assumptions that do not hold on hv1 and hv2. Nothing is written when all hold.
.EXAMPLE
./Test-HyperVAssumption.ps1 -ComputerName hv1, hv2 -AllowChange -All | Export-Csv assumptions.csv
Tries also what needs a machine of its own, and keeps every answer.
.OUTPUTS
One object for each assumption that does not hold or could not be tried (with -All, for each): ComputerName, Assumption, Holds (true,
false, or empty where it was not tried), Expected, Found, Matters (what VMatrix does wrong without it), and Mend.
#>
[CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'Medium')]
param(
    # The hosts, as the pool file names their addresses; this machine unless said.
    [Parameter(Position = 0, ValueFromPipeline)] [Alias('Address', 'HostName')] [string[]] $ComputerName = $(if ($env:COMPUTERNAME) { $env:COMPUTERNAME } else { [Environment]::MachineName }),

    # Another account than the one that runs this.
    [pscredential] $Credential,

    # The nest's folder, to try whether the hosts reach it; a share such as \\files\nest.
    [string] $NestFolder,

    # Makes a throwaway virtual machine on each host (two with -NestFolder), tries on it what reading cannot show, and removes it.
    [switch] $AllowChange,

    # Shows what holds, too.
    [switch] $All
)

begin {
    Set-StrictMode -Version 3
    $ErrorActionPreference = 'Stop'

    # What the driver calls: the command, the parameters that it gives at one time, and the parameter that takes the objects of Get-VM.
    $calls = @(
        @{ Command = 'Hyper-V\Get-VM'; Give = 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Get-VM'; Give = 'Id', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Get-VMHost'; Give = 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Get-VMNetworkAdapter'; Give = 'All', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Get-VMNetworkAdapter'; Give = @(); Pipe = 'VM' }
        @{ Command = 'Hyper-V\Connect-VMNetworkAdapter'; Give = , 'SwitchName'; Pipe = 'VMNetworkAdapter' }
        @{ Command = 'Hyper-V\Get-VMDvdDrive'; Give = @(); Pipe = 'VM' }
        @{ Command = 'Hyper-V\Get-VMDvdDrive'; Give = 'ControllerNumber', 'ControllerLocation'; Pipe = 'VM' }
        @{ Command = 'Hyper-V\Add-VMDvdDrive'; Give = , 'Path'; Pipe = 'VM' }
        @{ Command = 'Hyper-V\Set-VMDvdDrive'; Give = , 'Path'; Pipe = 'VMDvdDrive' }
        @{ Command = 'Hyper-V\Set-VM'; Give = , 'Notes'; Pipe = 'VM' }
        @{ Command = 'Hyper-V\Set-VM'; Give = 'Notes', 'NewVMName', 'ProcessorCount', 'StaticMemory', 'AutomaticCheckpointsEnabled', 'AutomaticStartAction', 'AutomaticStopAction', 'CheckpointType'; Pipe = 'VM' }
        @{ Command = 'Hyper-V\Start-VM'; Give = @(); Pipe = 'VM' }
        @{ Command = 'Hyper-V\Resume-VM'; Give = @(); Pipe = 'VM' }
        @{ Command = 'Hyper-V\Save-VM'; Give = @(); Pipe = 'VM' }
        @{ Command = 'Hyper-V\Stop-VM'; Give = 'TurnOff', 'Force'; Pipe = 'VM' }
        @{ Command = 'Hyper-V\Remove-VMSavedState'; Give = @(); Pipe = 'VM' }
        @{ Command = 'Hyper-V\Remove-VM'; Give = , 'Force'; Pipe = 'VM' }
        @{ Command = 'Hyper-V\Move-VM'; Give = 'DestinationHost', 'IncludeStorage', 'DestinationStoragePath', 'DestinationCredential'; Pipe = 'VM' }
        @{ Command = 'Hyper-V\Export-VM'; Give = 'Path', 'CaptureLiveState'; Pipe = 'VM' }
        @{ Command = 'Hyper-V\Export-VM'; Give = , 'Path'; Pipe = 'VM' }
        @{ Command = 'Hyper-V\Set-VHD'; Give = 'Path', 'ParentPath', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Import-VM'; Give = 'Path', 'Register', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Compare-VM'; Give = 'Path', 'Register', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\New-VM'; Give = 'Name', 'MemoryStartupBytes', 'Generation', 'VHDPath', 'Path', 'SwitchName', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\New-VHD'; Give = 'Path', 'ParentPath', 'Differencing', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Get-VHD'; Give = 'Path', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Convert-VHD'; Give = 'Path', 'DestinationPath', 'VHDType', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Compare-VM'; Give = 'VM', 'DestinationHost', 'IncludeStorage', 'DestinationStoragePath', 'DestinationCredential' }
        @{ Command = 'Hyper-V\Get-VMSnapshot'; Give = , 'VM' }
        @{ Command = 'Hyper-V\Get-VMAssignableDevice'; Give = , 'VM' }
        @{ Command = 'Hyper-V\Get-VMSecurity'; Give = , 'VM' }
        @{ Command = 'Hyper-V\Get-VMGpuPartitionAdapter'; Give = , 'VM' }
        @{ Command = 'Hyper-V\Import-VM'; Give = 'Path', 'Copy', 'GenerateNewId', 'VirtualMachinePath', 'VhdDestinationPath', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Measure-VM'; Give = , 'VM' }
        @{ Command = 'Hyper-V\Measure-VM'; Give = 'Name', 'ComputerName', 'Credential' }
        @{ Command = 'Hyper-V\Enable-VMResourceMetering'; Give = , 'VM' }
        @{ Command = 'Hyper-V\Reset-VMResourceMetering'; Give = , 'VM' }
        @{ Command = 'CimCmdlets\Get-CimInstance'; Give = 'ClassName', 'Property', 'ComputerName' }
        @{ Command = 'CimCmdlets\Get-CimInstance'; Give = 'ClassName', 'Property', 'Namespace', 'CimSession' }
        @{ Command = 'CimCmdlets\New-CimSession'; Give = 'ComputerName', 'Credential' }
    )
    $clusterCalls = @(
        @{ Command = 'FailoverClusters\Get-Cluster'; Give = , 'Name' }
        @{ Command = 'FailoverClusters\Get-ClusterGroup'; Give = 'VMId', 'Cluster' }
        @{ Command = 'FailoverClusters\Get-ClusterNode'; Give = 'Name', 'Cluster' }
        @{ Command = 'FailoverClusters\Move-ClusterVirtualMachineRole'; Give = 'VMId', 'Node', 'MigrationType', 'Cluster' }
        @{ Command = 'FailoverClusters\Remove-ClusterGroup'; Give = 'VMId', 'RemoveResources', 'Force', 'Cluster' }
    )

    $nlbCalls = @(
        @{ Command = 'NetworkLoadBalancingClusters\Get-NlbClusterNode'; Give = 'HostName', 'NodeName' }
        @{ Command = 'NetworkLoadBalancingClusters\Start-NlbClusterNode'; Give = , 'HostName' }
        @{ Command = 'NetworkLoadBalancingClusters\Resume-NlbClusterNode'; Give = , 'HostName' }
        @{ Command = 'NetworkLoadBalancingClusters\Stop-NlbClusterNode'; Give = 'HostName', 'Drain', 'Timeout' }
    )

    # Words of enumerations that the driver compares with, by the type that has them.
    $words = [ordered]@{
        'Microsoft.HyperV.PowerShell.VMState'                     = 'Running', 'Off', 'Stopping', 'Saved', 'Paused', 'Starting', 'Saving', 'Pausing', 'Resuming', 'RunningCritical', 'OffCritical', 'SavedCritical', 'PausedCritical'
        'Microsoft.HyperV.PowerShell.VMOperationalStatus'         = 'Ok', 'BackingUpVirtualMachine', 'CreatingSnapshot', 'ApplyingSnapshot', 'DeletingSnapshot', 'MergingDisks', 'ExportingVirtualMachine', 'MigratingVirtualMachine'
        'Microsoft.HyperV.PowerShell.VMReplicationState'          = 'Disabled', 'Replicating', 'Suspended'
        'Microsoft.HyperV.PowerShell.VMReplicationMode'           = 'None', 'Primary', 'Replica', 'TestReplica', 'ExtendedReplica'
        'Microsoft.HyperV.PowerShell.SnapshotType'                = 'Standard', 'Recovery'
        'Microsoft.HyperV.PowerShell.MigrationAuthenticationType' = 'CredSSP', 'Kerberos'
        'Microsoft.HyperV.PowerShell.StartAction'                 = , 'Nothing'
        'Microsoft.HyperV.PowerShell.StopAction'                  = , 'Save'
        'Microsoft.HyperV.PowerShell.CheckpointType'              = , 'Disabled'
        'Microsoft.HyperV.PowerShell.CaptureLiveState'            = , 'CaptureCrashConsistentState'
        'Microsoft.Vhd.PowerShell.VhdType'                        = 'Dynamic', 'Differencing'
    }
    $machineProperties = @{
        Id = [guid]; Name = [string]; State = [Enum]; Notes = [string]; MemoryAssigned = [long]; MemoryStartup = [long]; ProcessorCount = [long]; Version = [string]; IsClustered = [bool]
        Path = [string]; OperationalStatus = [array]; HardDrives = $null; NetworkAdapters = $null; DVDDrives = $null; ReplicationState = [Enum]; ReplicationMode = [Enum]; Heartbeat = $null
    }
    $hostProperties = @{
        VirtualMachinePath = [string]; VirtualMachineMigrationEnabled = [bool]; VirtualMachineMigrationAuthenticationType = [Enum]; MaximumVirtualMachineMigrations = $null; MaximumStorageMigrations = $null; SupportedVmVersions = $null
    }
    $hyperVAdministrators = 'S-1-5-32-578'
    $secret = if ($Credential) { @{ Credential = $Credential } } else { @{} }

    function Write-Answer {
        param([string] $On, [string] $Assumption, $Holds, $Expected, $Found, [string] $Matters, [string] $Mend = 'Report it: VMatrix must learn it.')
        if ($Holds -eq $true -and -not $All) { return }
        [pscustomobject]@{
            PSTypeName   = 'VMatrix.HyperVAssumption'
            ComputerName = $On
            Assumption   = $Assumption
            Holds        = $Holds
            Expected     = "$Expected"
            Found        = "$Found"
            Matters      = $Matters
            Mend         = if ($Holds -eq $true) { '' } else { $Mend }
        }
    }

    # Asks a question; an error is an answer that it could not be asked.
    function Test-Answer {
        param([string] $On, [string] $Assumption, $Expected, [string] $Matters, [scriptblock] $Ask, [scriptblock] $Holds, [string] $Mend = 'Report it: VMatrix must learn it.')
        try {
            $found = & $Ask
            Write-Answer $On $Assumption ([bool](& $Holds $found)) $Expected ($found -join ', ') $Matters $Mend
        }
        catch {
            Write-Answer $On $Assumption $null $Expected "It could not be asked: $($_.Exception.Message) ($($_.FullyQualifiedErrorId))" $Matters $Mend
        }
    }

    # Whether one parameter set of a command takes all parameters that are given, and wants none that is not.
    function Test-Call {
        param([hashtable] $Call)
        $shown = "$($Call.Command) $(($Call.Give | ForEach-Object { "-$_" }) -join ' ')$(if ($Call['Pipe']) { " with objects for -$($Call.Pipe)" })"
        $command = Get-Command $Call.Command -ErrorAction Ignore
        if (-not $command) {
            Write-Answer '' "There is $shown" $false 'the command' 'no such command' 'The driver cannot work.' 'Install the module: Install-WindowsFeature Hyper-V-PowerShell, RSAT-Clustering-PowerShell (server); Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V-Management-PowerShell (client).'
            return
        }
        $fits = foreach ($set in $command.ParameterSets) {
            $names = $set.Parameters.Name
            if (@($Call.Give | Where-Object { $_ -notin $names }).Count -gt 0) { continue }
            $open = @($set.Parameters | Where-Object { $_.IsMandatory -and $_.Name -notin $Call.Give })
            $pipe = $Call['Pipe']
            if ($pipe) {
                if (-not ($set.Parameters | Where-Object { $_.Name -eq $pipe -and $_.ValueFromPipeline })) { continue }
                $open = @($open | Where-Object Name -NE $pipe)
            }
            if ($open.Count -eq 0) { $set.Name }
        }
        Write-Answer '' "One parameter set takes $shown" ([bool]$fits) 'a parameter set' ($fits -join ', ') 'The call fails before it reaches a host.'
    }
    $first = $true
}

process {
    if ($first) {
        $first = $false
        foreach ($call in $calls) { Test-Call $call }
        if (Get-Module -ListAvailable FailoverClusters) { foreach ($call in $clusterCalls) { Test-Call $call } }
        elseif ($All) { Write-Answer '' 'The FailoverClusters module is here' $null 'the module, for clustered hosts' 'not installed' 'Clustered machines cannot be moved by their cluster.' 'Install-WindowsFeature RSAT-Clustering-PowerShell, if your hosts are clustered.' }
        if (Get-Module -ListAvailable NetworkLoadBalancingClusters) { foreach ($call in $nlbCalls) { Test-Call $call } }
        Test-Answer '' 'The Hyper-V module loads into this PowerShell itself, not as a proxy of another one' 'live objects' 'Properties come back as texts, and pipelines of objects do not bind.' {
            (Import-Module Hyper-V -PassThru).PrivateData -is [hashtable] -and (Get-Module Hyper-V).PrivateData.ContainsKey('ImplicitRemoting')
        } { $args[0] -ne $true } 'Use the module of Windows Server 2016 or newer, which is marked for PowerShell 7; or Windows PowerShell.'
        foreach ($type in $words.Keys) {
            $enum = $type -as [type]
            if (-not $enum) { Write-Answer '' "There is the type $type" $false $type 'no such type' 'The words of its values may differ.'; continue }
            $missing = @($words[$type] | Where-Object { $_ -notin [Enum]::GetNames($enum) })
            Write-Answer '' "$type has the values that VMatrix knows" ($missing.Count -eq 0) ($words[$type] -join ', ') "missing: $($missing -join ', ')" 'A state is not recognised, and counts as running.'
        }
    }

    foreach ($computer in $ComputerName) {
        $at = @{ ComputerName = $computer } + $secret
        $settings = $null
        try { $settings = Hyper-V\Get-VMHost @at }
        catch {
            Write-Answer $computer 'The host answers and lets this account ask for its settings' $false 'an answer' "$($_.Exception.Message) ($($_.FullyQualifiedErrorId), $($_.CategoryInfo.Category), 0x$('{0:X8}' -f $_.Exception.HResult))" 'Nothing works on this host.' "On the host: Enable-PSRemoting; Add-LocalGroupMember -SID $hyperVAdministrators -Member ACCOUNT; see about_VMatrix_HyperV."
            continue
        }
        Write-Answer $computer 'The host answers and lets this account ask for its settings' ($null -ne $settings) 'an answer' $(if ($settings) { 'an answer' } else { 'nothing' }) 'Without rights everything looks like an empty list.' "On the host: Add-LocalGroupMember -SID $hyperVAdministrators -Member ACCOUNT"
        if (-not $settings) { continue }
        foreach ($name in $hostProperties.Keys) {
            $property = $settings.PSObject.Properties[$name]
            $type = $hostProperties[$name]
            Write-Answer $computer "Get-VMHost has the property $name" ($property -and (-not $type -or $property.Value -is $type)) $(if ($type) { $type.Name } else { 'any value' }) $(if ($property -and $null -ne $property.Value) { $property.Value.GetType().FullName } else { 'nothing' }) 'A setting of the host is not seen.'
        }

        # What moves between hosts need. Any of these is a choice of its owner; VMatrix then moves machines by saving them, or not at all.
        if ($settings.PSObject.Properties['VirtualMachineMigrationEnabled']) {
            Write-Answer $computer 'Live migration is enabled' $settings.VirtualMachineMigrationEnabled $true $settings.VirtualMachineMigrationEnabled 'Servers are not moved from or to this host.' "Enable-VMMigration -ComputerName $computer"
            Write-Answer $computer 'Migrations authenticate by Kerberos' ("$($settings.VirtualMachineMigrationAuthenticationType)" -eq 'Kerberos') 'Kerberos' $settings.VirtualMachineMigrationAuthenticationType 'CredSSP works only where the command runs on the source host itself, and not with Credential Guard.' "Set-VMHost -ComputerName $computer -VirtualMachineMigrationAuthenticationType Kerberos, with constrained delegation as about_VMatrix_HyperV shows"
        }

        # An id that no machine has: how does the host say so?
        $nobody = [guid]::NewGuid()
        try {
            $none = @(Hyper-V\Get-VM -Id $nobody @at)
            Write-Answer $computer 'A machine that does not exist is an error' ($none.Count -gt 0) 'an error' 'an empty answer' 'VMatrix takes an empty answer for missing rights and asks once more; slower, and no harm.'
        }
        catch {
            $id = ($_.FullyQualifiedErrorId -split ',')[0]
            $known = "$($_.CategoryInfo.Category)" -eq 'ObjectNotFound' -or $id -in 'InvalidParameter', 'ObjectNotFound'
            Write-Answer $computer 'The error for a machine that does not exist is known' $known 'category ObjectNotFound, or id InvalidParameter or ObjectNotFound' "$id, $($_.CategoryInfo.Category), 0x$('{0:X8}' -f $_.Exception.HResult)" 'A server that is gone looks like a host in trouble.'
        }

        # Where does an error tell its code? The module's exceptions seldom have one of their own: it stands in the text, in every language.
        try {
            $null = Hyper-V\Get-VHD -Path "C:\vmatrix-$nobody.vhdx" @at
            Write-Answer $computer 'A disk that does not exist is an error' $false 'an error' 'none' 'A gold disk that is not there is not noticed before a server is made of it.'
        }
        catch {
            $told = $_
            $results = @(for ($e = $told.Exception; $null -ne $e; $e = $e.InnerException) { '0x{0:X8}' -f $e.HResult })
            $texts = @(for ($e = $told.Exception; $null -ne $e; $e = $e.InnerException) { $e.Message }) + $told.FullyQualifiedErrorId
            $written = @([regex]::Matches("$texts", '0x[89A-F][0-9A-F]{7}', 'IgnoreCase').Value | Sort-Object -Unique)
            $known = @($results + $written | Where-Object { $_ -in '0x80070002', '0x80070003' }).Count -gt 0
            Write-Answer $computer 'An error tells its code, by its HRESULT or in its text' $known '0x80070002 or 0x80070003 in one of them' "$(($told.FullyQualifiedErrorId -split ',')[0]), $($told.CategoryInfo.Category); HRESULT $($results -join ', '); in the text $($written -join ', ')" 'Errors are told without their mend.'
        }

        $machines = @(try { Hyper-V\Get-VM @at } catch { Write-Answer $computer 'Machines can be listed' $false 'a list' "$($_.Exception.Message) ($($_.FullyQualifiedErrorId))" 'Nothing works on this host.'; continue })
        if ($machines.Count -eq 0) {
            Write-Answer $computer 'Machines look as VMatrix expects' $null 'a machine to look at' 'the host has none, or the account may not see them' 'Properties were not looked at.' 'Run it with -AllowChange, or on a host with a machine.'
        }
        else {
            $machine = $machines[0]
            foreach ($name in $machineProperties.Keys) {
                $property = $machine.PSObject.Properties[$name]
                $type = $machineProperties[$name]
                $holds = $property -and (-not $type -or $property.Value -is $type -or ($null -eq $property.Value -and $type -eq [string]))
                Write-Answer $computer "Get-VM has the property $name" $holds $(if ($type) { $type.Name } else { 'any value' }) $(if ($property -and $null -ne $property.Value) { $property.Value.GetType().FullName } elseif ($property) { 'null' } else { 'no such property' }) 'Something about machines is not seen.'
            }
            Test-Answer $computer 'A machine is found again by its id' $machine.Id 'Servers are named by id and by nothing else.' { (Hyper-V\Get-VM -Id $machine.Id @at).Id } { "$($args[0])" -eq "$($machine.Id)" }.GetNewClosure()
            $twins = @($machines | Group-Object Id | Where-Object Count -GT 1)
            Write-Answer $computer 'Ids of machines are unique on a host' ($twins.Count -eq 0) 'each once' (($twins | ForEach-Object Name) -join ', ') 'The wrong machine could be meant.'
            Test-Answer $computer 'Network adapters of all machines come in one call, with the machine''s id' 'VMId' 'Addresses of servers are not found.' { (Hyper-V\Get-VMNetworkAdapter -All @at | Select-Object -First 1).PSObject.Properties.Name } { -not $args[0] -or ('VMId' -in $args[0] -and 'IPAddresses' -in $args[0] -and 'SwitchName' -in $args[0]) }
        }

        $cim = @{}
        if ($Credential) { try { $cim.CimSession = CimCmdlets\New-CimSession @at } catch { Write-Answer $computer 'A CIM session opens' $false 'a session' $_.Exception.Message 'Processor and build of the host are not known: saved states are tried where they cannot resume.' } }
        else { $cim.ComputerName = $computer }
        if ($cim.Count -gt 0) {
            Test-Answer $computer 'The host tells its processor and its build' 'Manufacturer, Family, MaxClockSpeed, BuildNumber and FreePhysicalMemory' 'Saved states are tried on hosts that cannot resume them; how busy servers are is not known.' {
                $cpu = CimCmdlets\Get-CimInstance -ClassName Win32_Processor -Property Manufacturer, Family, MaxClockSpeed @cim | Select-Object -First 1
                $system = CimCmdlets\Get-CimInstance -ClassName Win32_OperatingSystem -Property BuildNumber, FreePhysicalMemory @cim
                "$($cpu.Manufacturer)"; "$($cpu.Family)"; "$($cpu.MaxClockSpeed)"; "$($system.BuildNumber)"; "$($system.FreePhysicalMemory)"
            } { @($args[0] | Where-Object { $_ }).Count -eq 5 } 'On the host: Add-LocalGroupMember -SID S-1-5-32-580 (Remote Management Users) -Member ACCOUNT'
            Test-Answer $computer 'The hypervisor tells how busy the host is, guests included' '_Total with PercentTotalRunTime' 'Servers that a full host starves do not count as busy, where load comes from processors.' {
                (CimCmdlets\Get-CimInstance -ClassName Win32_PerfFormattedData_HvStats_HyperVHypervisorLogicalProcessor -Property Name, PercentTotalRunTime @cim | Where-Object Name -EQ _Total).PercentTotalRunTime
            } { "$($args[0])" -match '^\d+$' } 'On the host: Add-LocalGroupMember -SID S-1-5-32-558 (Performance Monitor Users) -Member ACCOUNT'
            Test-Answer $computer 'The clocks of this machine and of the host differ by less than five minutes' 'less than 00:05:00' 'Kerberos refuses.' {
                (CimCmdlets\Get-CimInstance -ClassName Win32_OperatingSystem -Property LocalDateTime @cim).LocalDateTime
            } { [Math]::Abs(([datetime]$args[0] - [datetime]::Now).TotalMinutes) -lt 5 } 'w32tm /resync'
        }

        if (-not $AllowChange) { continue }
        $name = "VMatrix-assumption-$([guid]::NewGuid().ToString('n').Substring(0, 8))"
        if (-not $PSCmdlet.ShouldProcess("host '$computer'", "Make the throwaway machine $name, try things on it, and remove it")) { continue }
        $made = [System.Collections.Generic.List[guid]]::new()
        try {
            $own = Hyper-V\New-VM -Name $name -MemoryStartupBytes 64MB -Generation 2 -NoVHD @at
            $made.Add($own.Id)
            Test-Answer $computer 'A new machine is off and has an id' 'Off' 'Servers cannot be made.' { "$($own.State)" } { $args[0] -eq 'Off' }

            # As the driver writes them: the owner's own lines, then one line of ours, with letters that are not plain.
            $written = "Notes of the owner:`n$([char]0xC4), $([char]0x20AC), $([char]0x65E5)$([char]0x672C), `"quoted`" and 'single'`nVMatrix:" + (@{ mark = @{ serverId = [guid]::NewGuid(); name = "FINANCE-$([char]0xC4)"; padding = 'x' * 1500 } } | ConvertTo-Json -Compress)
            Test-Answer $computer 'Notes come back as they were written' "$($written.Length) characters" 'Marks are lost, and with them which machine is which server.' {
                Hyper-V\Get-VM -Id $own.Id @at | Hyper-V\Set-VM -Notes $written
                (Hyper-V\Get-VM -Id $own.Id @at).Notes
            } { ($args[0] -replace "`r`n", "`n") -eq $written }.GetNewClosure()
            Test-Answer $computer 'A machine can be renamed with Set-VM -NewVMName' "$name-2" 'A disposed server keeps its name.' {
                Hyper-V\Get-VM -Id $own.Id @at | Hyper-V\Set-VM -NewVMName "$name-2"
                (Hyper-V\Get-VM -Id $own.Id @at).Name
            } { $args[0] -eq "$name-2" }.GetNewClosure()
            Test-Answer $computer 'Start, save, wake and turn off go through the states that VMatrix expects' 'Running, Saved, Running, Off' 'Servers are not woken or put to sleep.' {
                $vm = { Hyper-V\Get-VM -Id $own.Id @at }
                & $vm | Hyper-V\Start-VM; "$((& $vm).State)"
                & $vm | Hyper-V\Save-VM; "$((& $vm).State)"
                & $vm | Hyper-V\Start-VM; "$((& $vm).State)"
                & $vm | Hyper-V\Stop-VM -TurnOff -Force; "$((& $vm).State)"
            } { ($args[0] -join ', ') -eq 'Running, Saved, Running, Off' } 'Where it cannot start: does the host have 64 MB free, and does its memory allow another machine?'
            try {
                Hyper-V\Get-VM -Id $own.Id @at | Hyper-V\Save-VM
                Write-Answer $computer 'To save a machine that is off is an error' $false 'an error' 'none' 'A server that was off counts as saved.'
            }
            catch {
                Write-Answer $computer 'The error for a machine in the wrong state is known' (($_.FullyQualifiedErrorId -split ',')[0] -eq 'InvalidState' -or "$($_.CategoryInfo.Category)" -in 'InvalidOperation', 'InvalidState', 'ResourceBusy') 'id InvalidState, or category InvalidOperation' "$(($_.FullyQualifiedErrorId -split ',')[0]), $($_.CategoryInfo.Category), 0x$('{0:X8}' -f $_.Exception.HResult)" 'The error is told, but without its mend.'
            }
            Test-Answer $computer 'Resource metering measures a machine and says for how long' 'AverageProcessorUsage and MeteringDuration' 'The load of servers behind a balancer that counts nothing is not known.' {
                Hyper-V\Enable-VMResourceMetering -VM (Hyper-V\Get-VM -Id $own.Id @at)
                (Hyper-V\Measure-VM -VM (Hyper-V\Get-VM -Id $own.Id @at)).PSObject.Properties.Name
            } { 'AverageProcessorUsage' -in $args[0] -and 'MeteringDuration' -in $args[0] }
            if ($NestFolder) {
                $separator = if ($NestFolder -match '^(\\\\|[A-Za-z]:)') { '\' } else { '/' }
                $export = "$NestFolder$separator$name"
                try {
                    Test-Answer $computer 'The host writes to the nest, and a copy is another machine with the same notes' 'another id, the same notes' 'Images are not made and servers are not taken off their hosts.' {
                        Hyper-V\Get-VM -Id $own.Id @at | Hyper-V\Export-VM -Path $export
                        $file = Get-ChildItem -LiteralPath $export -Recurse -Filter '*.vmcx' | Where-Object { $_.Directory.Name -eq 'Virtual Machines' } | Select-Object -First 1
                        $copy = Hyper-V\Import-VM -Path $file.FullName -Copy -GenerateNewId -VirtualMachinePath $export @at
                        $made.Add($copy.Id)
                        "$($copy.Id)"; $copy.Notes -eq (Hyper-V\Get-VM -Id $own.Id @at).Notes
                    } { $args[0][0] -ne "$($own.Id)" -and $args[0][1] -eq $true } "Give the host's computer account and this account the right to change $NestFolder, and let the host delegate to the file server (cifs)."
                }
                finally {
                    if (Test-Path -LiteralPath $export) { Remove-Item -LiteralPath $export -Recurse -Force -ErrorAction Continue }
                }

                # hyperv.nest: share, once through, as the driver does it.
                $bed = "$export-asleep"
                try {
                    $null = New-Item -ItemType Directory $bed
                    Test-Answer $computer 'A saved machine sleeps in the nest, registered nowhere, and wakes from there' 'its image comes along, it is put back on the old one, the same id, Saved, the same notes, a second registration is refused, Running' 'hyperv.nest: share does not work here: leave it at hosts.' {
                        $gold, $leaf = "$bed$($separator)gold.vhdx", "$bed$($separator)leaf.vhdx"
                        $null = Hyper-V\New-VHD -Path $gold -SizeBytes 64MB -Dynamic @at
                        $null = Hyper-V\New-VHD -Path $leaf -ParentPath $gold -Differencing @at
                        $sleeper = Hyper-V\New-VM -Name "$name-asleep" -MemoryStartupBytes 64MB -Generation 2 -VHDPath $leaf -Path "$bed$($separator)before" @at
                        $made.Add($sleeper.Id)
                        $vm = { Hyper-V\Get-VM -Id $sleeper.Id @at }
                        & $vm | Hyper-V\Set-VM -Notes $written
                        & $vm | Hyper-V\Start-VM
                        & $vm | Hyper-V\Save-VM
                        & $vm | Hyper-V\Export-VM -Path "$bed$($separator)out"
                        $files = Get-ChildItem -LiteralPath "$bed$($separator)out" -Recurse -File
                        $copy, $exported = 'gold.vhdx', 'leaf.vhdx' | ForEach-Object { $disk = $_; ($files | Where-Object Name -EQ $disk).FullName }
                        if ((Hyper-V\Get-VHD -Path $exported @at).ParentPath -eq $copy) { 'its image comes along' }
                        Hyper-V\Set-VHD -Path $exported -ParentPath $gold @at
                        Remove-Item -LiteralPath $copy -Force
                        if ((Hyper-V\Get-VHD -Path $exported @at).ParentPath -eq $gold) { 'it is put back on the old one' }
                        & $vm | Hyper-V\Remove-VM -Force
                        $file = ($files | Where-Object { $_.Extension -eq '.vmcx' -and $_.Directory.Name -eq 'Virtual Machines' }).FullName
                        $back = Hyper-V\Import-VM -Path $file -Register @at
                        if ($back.Id -eq $sleeper.Id) { 'the same id' }
                        "$((& $vm).State)"
                        if (((& $vm).Notes -replace "`r`n", "`n") -eq $written) { 'the same notes' }
                        try { $null = Hyper-V\Import-VM -Path $file -Register @at; 'a second registration is taken' } catch { 'a second registration is refused' }
                        & $vm | Hyper-V\Start-VM; "$((& $vm).State)"
                    } { ($args[0] -join ', ') -eq 'its image comes along, it is put back on the old one, the same id, Saved, the same notes, a second registration is refused, Running' } "Give the host's computer account and this account full control of $NestFolder, and let the host delegate to the file server (cifs)."
                }
                finally {
                    foreach ($left in @(Hyper-V\Get-VM -Name "$name-asleep*" @at)) {
                        if ("$($left.State)" -eq 'Saved') { $left | Hyper-V\Remove-VMSavedState }
                        elseif ("$($left.State)" -ne 'Off') { $left | Hyper-V\Stop-VM -TurnOff -Force }
                        Hyper-V\Get-VM -Id $left.Id @at | Hyper-V\Remove-VM -Force
                    }
                    if (Test-Path -LiteralPath $bed) { Remove-Item -LiteralPath $bed -Recurse -Force -ErrorAction Continue }
                }
            }
        }
        catch {
            Write-Answer $computer 'A throwaway machine can be made' $false 'a machine' "$($_.Exception.Message) ($($_.FullyQualifiedErrorId))" 'VMatrix cannot make servers here.' "On the host: Add-LocalGroupMember -SID $hyperVAdministrators -Member ACCOUNT"
        }
        finally {
            foreach ($id in $made) {
                try {
                    $left = Hyper-V\Get-VM @at | Where-Object Id -EQ $id | Select-Object -First 1
                    if (-not $left) { continue }
                    if ("$($left.State)" -ne 'Off') { $left | Hyper-V\Stop-VM -TurnOff -Force }
                    Hyper-V\Get-VM -Id $id @at | Hyper-V\Remove-VM -Force
                }
                catch {
                    Write-Answer $computer 'The throwaway machine was removed' $false 'nothing is left' "machine $id is left: $($_.Exception.Message)" 'It is yours to remove.' "Get-VM -ComputerName $computer -Id $id | Remove-VM -Force"
                }
            }
        }
    }
}
